"""The rewards that a GRPO run names: those of this project by name, anyone's by dotted path.

    --reward format,es_star
    PYTHONPATH=. python src/grpo.py … --reward format,my_rewards.mine     # mine() in my_rewards.py, working directory

A reward is called as trl calls it, with lists of equal length, and returns a number (or None) for each completion:

    def mine(prompts, completions, completion_ids, target, old_code, record_id, **kwargs): ...

If it has an attribute `prepare`, that is called before the model loads, with the data and the records' ids. It may
explain its values for rollouts.jsonl: `kwargs["log_extra"]("mine reason", [text of each completion])`.
"""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Callable, Mapping, Sequence
from importlib import import_module
from pathlib import Path
from typing import Any

from transformers import TrainerState

from common.chat import Chat
from common.errors import InputError, message_of
from diff_match import REWARDS
from prompts import reference_completion
from rewards import reward_names

Reward = Callable[..., Any]
LATER = {"execution": "evaluation.migration.execution.execution"}  # imported if named: trainers need no sandbox


def load_rewards(names: str) -> dict[str, Reward]:
    """Comma-separated names and dotted paths -> the functions, by the names under which trl logs them."""
    chosen = [name.strip() for name in names.split(",")]
    paths = {**LATER, **{name: name for name in chosen if "." in name}}
    try:
        ordered = reward_names(chosen, [*REWARDS, *paths])
    except ValueError as error:
        raise InputError(str(error)) from None
    functions = [REWARDS.get(name) or import_reward(paths[name]) for name in ordered]
    logged = [getattr(function, "__name__", type(function).__name__) for function in functions]
    if twice := [name for name in logged if logged.count(name) > 1]:
        raise InputError(f"reward {names}: two functions are named {twice[0]}")
    return dict(zip(logged, functions, strict=True))


def import_reward(path: str) -> Reward:
    """The callable at `module.attribute`. The code runs at import, so any of its errors is reported in one line."""
    module_name, _, attribute = path.rpartition(".")
    try:
        module = import_module(module_name)
    except ModuleNotFoundError as error:
        hint = "its folder must be on PYTHONPATH (PYTHONPATH=. for the working directory)"
        raise InputError(f"reward {path}: there is no module {error.name}: {hint}") from None
    except Exception as error:
        raise InputError(f"reward {path}: {described(error)}") from None
    function = getattr(module, attribute, None)
    if not callable(function):
        what = "is not callable" if hasattr(module, attribute) else "does not exist"
        raise InputError(f"reward {path}: {attribute} {what} in {module.__file__}")
    return function


def reward_files(names: str) -> dict[str, Path]:
    """Module -> file of the rewards that are named by dotted path, for run.json: a resume must not change them."""
    modules = [import_module(name.strip().rpartition(".")[0]) for name in names.split(",") if "." in name]
    return {module.__name__: Path(module.__file__) for module in modules if module.__file__}


def check_rewards(functions: Mapping[str, Reward], rows: Sequence[Mapping[str, str]], chat: Chat, data: str) -> None:
    """Prepare every reward for the prompt rows of `data`, and score the reference answer of the first, as trl will."""
    for function in functions.values():
        if prepare := getattr(function, "prepare", None):
            prepare(data, [row["record_id"] for row in rows])
    row = rows[0]
    answer = reference_completion(row["target"])
    columns = {name: [value] for name, value in row.items() if name != "prompt"}
    for name, function in functions.items():
        try:
            found = function(
                prompts=[row["prompt"]],
                completions=[answer],
                completion_ids=[chat.encode_turn(answer)],
                trainer_state=TrainerState(),
                log_extra=lambda column, values: None,
                log_metric=lambda metric, value: None,
                **columns,
            )
            if inspect.iscoroutine(found):
                found = asyncio.run(found)
        except Exception as error:
            if function in REWARDS.values():  # a bug of this project
                raise
            raise InputError(f"reward {name}: {described(error)}") from None
        try:
            [value] = found
            float(0 if value is None else value)
        except (TypeError, ValueError):
            expected = "expected a list with a number for each completion"
            raise InputError(f"reward {name}: returned {found!r}: {expected}") from None


def described(error: Exception) -> str:
    """An exception as one line."""
    return f"{type(error).__name__}: {message_of(error)}"
