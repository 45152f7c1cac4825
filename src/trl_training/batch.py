"""The batch arithmetic of an optimizer step: how many sequences go through each process, how often.

    sequences a step = processes x per_device x accumulation

A configuration names the sequences a step (GRPO: prompts x generations, SFT: examples), so that the same file means the
same run on 1, 2, 4 or 8 GPUs.
"""

from __future__ import annotations

import os
from dataclasses import dataclass


@dataclass(frozen=True)
class Batch:
    """One optimizer step; `group` is the completions of a prompt (1: single examples)."""

    processes: int
    per_device: int
    accumulation: int
    group: int = 1

    @property
    def sequences(self) -> int:
        return self.processes * self.per_device * self.accumulation

    def __str__(self) -> str:
        what = "completions" if self.group > 1 else "examples"
        line = (
            f"{self.processes} process(es) x {self.per_device} per device x {self.accumulation} accumulation = "
            f"{self.sequences} {what} a step"
        )
        return (
            f"{line}; / {self.group} generations = {self.sequences // self.group} prompt(s)" if self.group > 1 else line
        )


def plan_batch(processes: int, per_device: int, sequences: int) -> Batch:
    """The batch of `sequences` a step that puts at most `per_device` through a process at once.

    `per_device` is lowered to a process's share of the step. Raises ValueError if the sequences do not divide evenly.
    """
    for name, value in {"per_device_train_batch_size": per_device, "sequences a step": sequences}.items():
        if value < 1:
            raise ValueError(f"{name} must be at least 1, got {value}")
    share = sequences // processes
    at_once = min(per_device, share)
    if sequences % processes or share % at_once:
        raise ValueError(
            f"{sequences} sequences a step cannot be divided evenly among {processes} process(es) x "
            f"per_device_train_batch_size {per_device}: change per_device_train_batch_size or the number of processes"
        )
    return Batch(processes, at_once, share // at_once)


def world_size() -> int:
    """Processes of this launch, as torchrun and accelerate announce them."""
    return int(os.environ.get("WORLD_SIZE", "1"))
