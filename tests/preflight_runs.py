"""What the tests of preflight share: a 7B model's sizes, runs of it, and a stand-in for nvidia-smi.

The arithmetic is that of Qwen2.5-Coder-7B: 28 layers, hidden 3,584, intermediate 18,944, 28 heads of 128, 4 KV heads,
vocabulary 152,064, untied. In bytes, and GB of 10^9 bytes.

    a layer      q and o 2 x 3584² = 25,690,112; k and v 2 x 3584 x 512 = 3,670,016; MLP 3 x 3584 x 18944 = 203,685,888;
                 biases 3584 + 2 x 512 = 4,608; norms 2 x 3584 = 7,168: 233,057,792
    P            28 x 233,057,792 + 2 x 152064 x 3584 + 3584 = 7,615,616,512
    A            28 x (q: 64 x 7168 + 3584 = 462,336; v: 64 x 4096 + 512 = 262,656) = 20,299,776
    targets      28 x (3584² + 3584 x 512) = 411,041,792
    KV cache     2 x 28 x 512 x 2 bytes = 57,344 a token
"""

from __future__ import annotations

import os
from pathlib import Path

from common import footprint
from common.footprint import Adapter
from common.model_shape import shape_of
from trl_training import memory, memory_report

ROOT = Path(__file__).parent.parent
GB = 10**9
P, A, TARGETS = 7_615_616_512, 20_299_776, 411_041_792

QWEN_7B = {
    "model_type": "qwen2",
    "num_hidden_layers": 28,
    "hidden_size": 3584,
    "intermediate_size": 18944,
    "num_attention_heads": 28,
    "num_key_value_heads": 4,
    "vocab_size": 152064,
    "tie_word_embeddings": False,
    "max_position_embeddings": 32768,
}
SHAPE = shape_of(QWEN_7B, "7B")
DORA = Adapter(64, ("q_proj", "v_proj"), dora=True, dropout=True)

SMI = """\
0, GPU-aa, NVIDIA H100 80GB HBM3, 81559, 81000, 580.65.06, 9.0
1, GPU-bb, NVIDIA H100 80GB HBM3, 81559, 40000, 580.65.06, 9.0
"""


def grpo(*flags: str, config: str = "configs/grpo.yaml", processes: int = 1, zero: int = 0) -> memory.Run:
    trainer, keys = memory_report.read_keys(str(ROOT / config), flags)
    return memory_report.run_of(trainer, keys, SHAPE, processes, zero)


def rows(estimate: footprint.Estimate) -> dict[str, dict[str, float]]:
    return {line.name: {phase: size for phase, size in line.phases.items() if size} for line in estimate.lines}


def fake_smi(folder: Path, monkeypatch, listed: str, busy: str) -> None:
    """An nvidia-smi on PATH that answers with these GPUs and processes."""
    smi = folder / "nvidia-smi"
    smi.write_text(
        f'#!/bin/sh\ncase "$1" in *compute-apps*) printf "{busy}" ;; *) printf "{listed}" ;; esac\n', "utf-8"
    )
    smi.chmod(0o755)
    monkeypatch.setenv("PATH", str(folder), prepend=os.pathsep)
