"""On a CPU, compute trl's loss from the completions' positions only.

With Triton, trl selects the positions that count before the LM head. Otherwise it computes every position and drops the
prompts' afterwards, which keeps shapes fixed for compilers. On a CPU nothing is compiled, and prompts are most of the
tokens (benchmarks/bench_loss.py). The result is the same.

`_use_triton` is private, so this file belongs to the pinned trl version; tests/trl_training/test_training.py fails if
it is gone.
"""

from __future__ import annotations

import torch
import trl.trainer.utils

trl_s_own = trl.trainer.utils._use_triton


def picks_first(device: torch.device) -> bool:
    """Whether the positions that count are selected before the LM head."""
    return device.type == "cpu" or trl_s_own(device)


def patch_trl_loss_on_cpu() -> None:
    """Let trl's trainers, SFT's and GRPO's, select first on a CPU too."""
    trl.trainer.utils._use_triton = picks_first
