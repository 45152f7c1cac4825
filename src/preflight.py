"""Does a run fit this node, or one that flags describe, and how long would it take? Nothing is loaded, no GPU is used.

    python src/preflight.py --config configs/grpo.yaml --per_device_train_batch_size 2
    python src/preflight.py --config configs/grpo.yaml --gpus 8 --gpu-memory 80 --gpu H100      another node
    python src/preflight.py --config configs/dapo.yaml --gpus 2 --gpu-memory 80 recode.adapter=full
    python3 src/preflight.py                                         only the node, before anything is installed

Flags of src/grpo.py and src/sft.py, or overrides of src/dapo.py, follow. It ends with `fits`, `tight` (less than 5 % of
a GPU is free), or the one key to change. Exit status 0: fits, tight, or not modelled; 2: does not fit, or something on
the node is missing.

What is estimated, and how far to trust it:

    exact       weights, adapter, gradients, optimizer state, merged copies, KV cache
    counted     activations: with saved-tensor hooks, on small models on a CPU (src/common/footprint.py)
    assumed     1 GB a process for CUDA and NCCL, 10 % of what a step allocates and frees, RAM of processes
    estimate    all times: peak rates from data sheets, assumed shares of them, counted kernels, no communication

Memory is that of the longest sequences, time that of typical ones. GB are 10^9 bytes; a card sold as 80 GB
has up to 7 % more. Mixtures of experts, quantised weights, unusual layers, FSDP and ZeRO-3 in trl are not modelled:
then a line says so, without a number.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

from common.cli import LAYERS, Parser, above_zero, fail, program
from common.errors import InputError, ReCodeError
from common.node import GB, Card, Node, this_node
from common.node_checks import Check, count_gpus, cpu_check, disk_checks, memory_check, this_machine
from common.settings import not_a_file

if TYPE_CHECKING:
    from common.fit import Place, Report

ROOT = Path(__file__).resolve().parent.parent


@dataclass(frozen=True)
class Settings:
    """The flags of this program, and those of the trainer."""

    config: str | None
    trainer: str | None
    gpus: int | None
    gpu_memory: float | None
    gpu: str
    cpus: int | None
    ram: float | None
    nodes: int
    accelerate: str
    prompt_tokens: int | None
    completion_tokens: int | None
    count_gpus: bool
    json: bool
    rest: tuple[str, ...]


def parse_arguments(argv: Sequence[str] | None = None) -> Settings:
    """The flags, checked against each other."""
    parser = Parser(description=__doc__)
    flag, launcher = parser.add_argument, os.environ.get("ACCELERATE") or "ddp"
    flag("--config", help="a YAML of configs/, for GRPO, SFT or DAPO")
    flag("--trainer", choices=("grpo", "sft"), help="which of the two a YAML is for (default: by its keys)")
    flag("--gpus", type=above_zero(int), help="GPUs of a node (default: all that are visible)")
    flag("--gpu-memory", type=above_zero(float, 1000), help="GB of each; describes a node that is not this one")
    flag("--gpu", default="", help="its type, for times: H100, H200, A100, L40S, … (src/common/step_time.py)")
    flag("--cpus", type=above_zero(int), help="CPUs of the described node")
    flag("--ram", type=above_zero(float, 100_000), help="GB of RAM of the described node")
    flag("--nodes", type=above_zero(int), default=1, help="equal nodes (default: %(default)s)")
    flag("--accelerate", default=launcher, help="a file of configs/accelerate (default: $ACCELERATE, or ddp)")
    flag("--prompt-tokens", type=above_zero(int), help="of a typical prompt, for times (default: 650)")
    flag("--completion-tokens", type=above_zero(int), help="of a step's longest completion, for times (default: 600)")
    flag("--count-gpus", action="store_true", help="print the number of visible GPUs, and nothing else")
    flag("--json", action="store_true", help="print one JSON object")
    args, rest = parser.parse_known_args(argv)
    if args.gpu_memory is None and (args.cpus or args.ram):
        fail("--cpus and --ram describe another node: add --gpu-memory")
    if args.gpu_memory is not None and args.gpus is None:
        fail("--gpu-memory describes another node: add --gpus")
    if rest and not args.config:
        fail(f"{rest[0]}: name a configuration with --config")
    return Settings(**vars(args), rest=tuple(rest))


def node_of(settings: Settings) -> Node:
    """The node that the flags describe, with empty GPUs, or this machine with its first --gpus."""
    gpus = settings.gpus
    if settings.gpu_memory is None:
        node = this_node()
        if gpus and gpus > len(node.cards):
            shown = f"this machine shows {len(node.cards)}"
            raise InputError(f"--gpus {gpus}: {shown}; add --gpu-memory to describe another node")
        return replace(node, cards=node.cards[:gpus])
    assert gpus is not None  # parse_arguments
    size = int(settings.gpu_memory * GB)
    cards = tuple(Card(settings.gpu, size, size, index) for index in range(gpus))
    ram = None if settings.ram is None else int(settings.ram * GB)
    return Node(cards, cpus=settings.cpus, memory=ram, described=True)


def zero_stage(name: str) -> int:
    """DeepSpeed's stage in configs/accelerate/NAME.yaml; 0 for DDP. -1 for anything else, which is not modelled."""
    folder = ROOT / "configs" / "accelerate"
    path = folder / f"{name}.yaml"
    if not path.is_file():
        names = " ".join(sorted(file.stem for file in folder.glob("*.yaml")))
        raise InputError(f"--accelerate {name}: configs/accelerate/{name}.yaml does not exist: choose from {names}")
    import yaml

    launch = yaml.safe_load(path.read_text("utf-8"))
    known = {"MULTI_GPU": 0, "DEEPSPEED": launch.get("deepspeed_config", {}).get("zero_stage", -1)}
    return known.get(launch.get("distributed_type", "MULTI_GPU"), -1)


def dapo_name(settings: Settings) -> str | None:
    """The name under configs/ of a DAPO configuration; None for one of GRPO or SFT, or none. Needs no package."""
    if not settings.config:
        return None
    path = Path(settings.config)
    if not path.is_file():
        raise not_a_file(path)
    if not re.search(rb"^(defaults|recode):", path.read_bytes(), re.MULTILINE):
        return None
    try:
        return str(path.resolve().relative_to(ROOT / "configs").with_suffix(""))
    except ValueError:
        raise InputError(f"{path}: src/dapo.py reads the DAPO configurations of configs/") from None


def place_of(settings: Settings, node: Node) -> Place:
    """Where the run would go. Its type of GPU is the flag's, or that of the first GPU if it is known."""
    from common.fit import Place
    from common.step_time import GPU_TYPES, Lengths, gpu_type

    kind = gpu_type(settings.gpu or node.cards[0].name)
    if settings.gpu and kind is None:
        raise InputError(f"--gpu {settings.gpu}: choose from {', '.join(known.name for known in GPU_TYPES)}")
    given = {"prompt": settings.prompt_tokens, "completion": settings.completion_tokens}
    return Place(
        gpus=len(node.cards),
        nodes=settings.nodes,
        card=min(card.memory for card in node.cards),
        free=min(card.free for card in node.cards),
        kind=kind,
        lengths=Lengths(**{key: tokens for key, tokens in given.items() if tokens is not None}),
        zero=zero_stage(settings.accelerate),
    )


def size_of(folder: Path) -> int:
    """The bytes of the checkpoints in a run's folder."""
    files = (file for kind in ("checkpoint-*", "global_step_*") for file in folder.glob(f"{kind}/**/*"))
    return sum(file.stat().st_size for file in files if file.is_file())


def run_checks(node: Node, report: Report, nodes: int) -> list[Check]:
    """CPUs, RAM and disks against what the run needs."""
    checks = []
    if node.cpus is not None:
        checks.append(cpu_check(node.cpus * nodes, *report.cpus))
    if node.memory is not None:
        checks.append(memory_check(node.memory, report.estimate.memory))
    if not node.described:
        there = size_of(report.output)  # of a run that resumes
        wanted = [("checkpoints", report.output, max(0.0, report.estimate.disk - there))]
        from huggingface_hub.constants import HF_HUB_CACHE

        cache = Path(HF_HUB_CACHE)
        if not Path(report.model).is_dir() and not (cache / f"models--{report.model.replace('/', '--')}").is_dir():
            wanted.append(("the model's files", cache, 2.0 * report.parameters))
        checks += disk_checks(wanted)
    return checks


def show(checks: Sequence[Check], report: Report | None, place: Place | None) -> None:
    """The tables."""
    for check in checks:
        print(f"{'FAIL' if check.problem else '  ok'}  {check.name}: {check.found}")
    if report and place:
        from common.fit import memory_table, time_table

        print(f"\n{report.model}: {report.parameters / 1e9:.2f} billion parameters (P)\n{report.summary}\n")
        print(*memory_table(report.estimate), sep="\n")
        if report.parts:
            print("", *time_table(report.parts, report.steps, place), sep="\n")
        else:
            print("\ntime of a step: not estimated: --gpu names the type of the GPUs (H100, A100, …)")


def estimated(settings: Settings, dapo: str | None, node: Node) -> tuple[Place | None, Report | None, str]:
    """(where the run would go, the estimates, or why there are none)."""
    if not node.cards or not settings.config:
        return None, None, ""
    package = "trl" if dapo is None else "verl"
    if find_spec(package) is None:
        return None, None, f"not estimated: {package} is not installed: pip install -r {LAYERS[package]}"
    from common.model_shape import NotModelled

    place = place_of(settings, node)
    try:
        if dapo is None:
            from trl_training import memory_report

            return place, memory_report.report(settings.config, settings.rest, place, settings.trainer), ""
        from verl_training import memory

        return place, memory.report(dapo, settings.rest, place), ""
    except NotModelled as error:
        return place, None, f"not modelled: {error}"


@program()
def main() -> None:
    settings = parse_arguments()
    if settings.count_gpus:
        print(count_gpus())
        return
    dapo = dapo_name(settings)
    node = node_of(settings)
    checks = this_machine(node, dapo=dapo is not None)
    place, report, note = estimated(settings, dapo, node)
    answer = f"memory and time: {note}" if note else "the node is ready"
    if place and report:
        from common.fit import verdict

        checks += run_checks(node, report, settings.nodes)
        answer = verdict(report, place)
    problems = [check.problem for check in checks if check.problem]
    if report and report.answer == "does not fit":
        problems.append(answer)
    if settings.json:
        found: dict[str, Any] = {"node": asdict(node), "checks": [asdict(check) for check in checks]}
        found |= {"place": place and asdict(place), "report": report and asdict(report)}
        print(json.dumps(found | {"answer": answer, "problems": problems}, indent=1, default=str))
    else:
        show(checks, report, place)
    if problems:
        raise ReCodeError("; ".join(problems))
    if not settings.json:
        print(f"\n{answer}")


if __name__ == "__main__":
    main()
