"""On a CPU, trl's loss without its detour over the prompts.

trl picks the positions that count before the LM head where it has Triton; elsewhere it puts every position through, and
drops the prompts' after: fixed shapes for compilers. On a CPU nothing is compiled, and prompts are most of the tokens:
benchmarks/bench_loss.py. What comes out is the same.

`_use_triton` is private, so this file belongs to the pinned trl version; tests/test_training.py tells when it is gone.
"""

from __future__ import annotations

import torch
import trl.trainer.utils

trl_s_own = trl.trainer.utils._use_triton


def picks_first(device: torch.device) -> bool:
    """Whether the positions that count are picked before the LM head."""
    return device.type == "cpu" or trl_s_own(device)


def look_at_completions_alone() -> None:
    """Let trl's trainers, SFT's and GRPO's, pick first on a CPU too."""
    trl.trainer.utils._use_triton = picks_first
