"""The table of docs/hardware.md: GPUs, the command, and the estimates beside it."""

from __future__ import annotations

import re
import shlex
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parent.parent
GPUS = re.compile(r"(?:(?P<nodes>\d+) nodes of )?(?P<gpus>\d+) x (?P<kind>.+), (?P<memory>\d+) GB")


@dataclass(frozen=True)
class Row:
    nodes: int
    gpus: int  # of a node
    kind: str
    memory: int  # GB of a GPU
    environment: dict[str, str]
    program: str  # grpo, sft, dapo
    script: str  # under scripts/
    flags: tuple[str, ...]
    estimates: tuple[str, ...]  # GB of a GPU, seconds, hours for 5,000 steps

    def __str__(self) -> str:
        return f"{self.nodes}x{self.gpus} {self.script} {' '.join(self.flags)}".strip()

    def preflight(self, model: Path) -> list[str]:
        """The flags of src/preflight.py for this row, with another model folder of the same shape."""
        here = ["--gpus", str(self.gpus), "--nodes", str(self.nodes), "--gpu-memory", str(self.memory)]
        here += ["--gpu", self.kind, "--accelerate", self.environment.get("ACCELERATE", "ddp")]
        if self.program == "dapo":
            words = ["--config-name", "dapo", *self.flags]
            at = len(words) - words[::-1].index("--config-name")  # the last wins
            config = str(ROOT / "configs" / f"{words[at]}.yaml")
            return [*here, "--config", config, *words[at + 1 :], f"actor_rollout_ref.model.path={model}"]
        config = () if "--config" in self.flags else ("--config", str(ROOT / "configs" / f"{self.program}.yaml"))
        return [*here, "--trainer", self.program, *config, *self.flags, "--model_name_or_path", str(model)]


def read_row(line: str) -> Row:
    where, command, *estimates = [cell.strip() for cell in line.strip("|").split("|")]
    found = GPUS.fullmatch(where)
    assert found, where
    words = shlex.split(command.strip("`"))
    environment = {}
    while "=" in words[0]:
        name, _, environment[name] = words.pop(0).partition("=")
    assert words[0] in ("bash", "sbatch"), command
    script = Path(words[1])
    return Row(
        nodes=int(found["nodes"] or 1),
        gpus=int(found["gpus"]),
        kind=found["kind"],
        memory=int(found["memory"]),
        environment=environment,
        program=script.stem,
        script=str(script.relative_to("scripts")),
        flags=tuple(words[2:]),
        estimates=tuple(estimates),
    )


def rows() -> list[Row]:
    section = (ROOT / "docs" / "hardware.md").read_text("utf-8").split("## Estimates")[1].split("\n## ")[0]
    return [read_row(line) for line in section.splitlines() if re.match(r"\| \d", line)]
