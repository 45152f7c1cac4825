"""Whether transformers can build the optimizer and the schedule of the learning rate: it tries after the model has
loaded, and evaluates the schedule's settings only after the warm-up."""

from __future__ import annotations

import copy
import math
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from transformers import Trainer, get_scheduler
from transformers.trainer_optimizer import is_optimizer_factory

from common.errors import InputError, message_of

OF_THE_MODEL = {"params", "model", "optimizer_dict"}  # settings that hold the model's own parameters (GaLore, LOMO)


@contextmanager
def quoted(args: Any, choice: str, more: str) -> Iterator[None]:
    """Turn a library's error into an InputError that names the two keys."""
    try:
        yield
    except Exception as error:  # the values are the user's, and the libraries report wrong ones with any exception
        also = f", {more} {getattr(args, more)}" if getattr(args, more) else ""
        value = getattr(getattr(args, choice), "value", getattr(args, choice))
        raise InputError(f"{choice} {value}{also}: {message_of(error)}") from None


def check_optimizer(args: Any, empty: Any) -> None:
    """Build both on one parameter; `empty` is the model without its weights. Raises InputError."""
    with quoted(args, "optim", "optim_args"):
        kind, settings = Trainer.get_optimizer_cls_and_kwargs(args, empty)
        if args.optim_args:
            without = copy.copy(args)
            without.optim_args = None
            if Trainer.get_optimizer_cls_and_kwargs(without, empty) == (kind, settings):
                raise InputError("this optimizer does not read them")
        if OF_THE_MODEL & settings.keys() or is_optimizer_factory(kind):
            kind, settings = torch.optim.SGD, {}
        optimizer = kind([torch.nn.Parameter(torch.zeros(1, device=args.device))], **settings)
    steps = args.max_steps if args.max_steps > 0 else 1000  # ours: the length may follow from the epochs
    warmup, more = args.get_warmup_steps(steps), args.lr_scheduler_kwargs
    with quoted(args, "lr_scheduler_type", "lr_scheduler_kwargs"):
        schedule = get_scheduler(args.lr_scheduler_type, optimizer, warmup, steps, scheduler_specific_kwargs=more)
        for factor in getattr(schedule, "lr_lambdas", ()):
            for step in (0, warmup, (warmup + steps) // 2, steps):
                if not (math.isfinite(factor(step)) and factor(step) >= 0):
                    raise InputError(f"step {step} would have {factor(step)} x learning_rate")
