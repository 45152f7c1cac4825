"""Command lines that fail early and in one line: TrlParser over a YAML file and flags, made strict.

What TrlParser accepts, this module rejects before any model loads: abbreviated flags, unknown keys (naming the nearest
known one) and values of the wrong type in the YAML. The configuration classes' own errors become one line.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import redirect_stderr
from dataclasses import dataclass, field, fields
from io import StringIO
from pathlib import Path
from typing import Any, NoReturn

from common.cli import LAYERS, fail, read_yaml, require, split_config, unknown_key
from records import BAD_ROWS, load_records

# Keys of trl's ModelConfig that no script here reads.
UNREAD = ("load_in_4bit", "load_in_8bit", "use_rslora", "lora_modules_to_save", "lora_target_parameters")


@dataclass
class DataArguments:
    """Keys that SFT and GRPO share."""

    data: str = field(
        default="",
        metadata={
            "help": "records: JSONL or JSON file, or hf://datasets/OWNER/NAME[@REVISION][/FILE]",
            "required": True,
        },
    )
    bad_rows: str = field(
        default="stop",
        metadata={"help": "rows with errors: stop, drop, or keep those that have a prompt and a target"},
    )
    max_prompt_length: int = field(default=2048, metadata={"help": "drop records whose prompt has more tokens"})
    max_target_length: int | None = field(
        default=None, metadata={"help": "drop records whose target code has more tokens"}
    )
    check: int | None = field(
        default=None,
        metadata={
            "help": "check flags, data and output_dir for a launch of this many processes, print the requirements "
            "files that the run needs, and stop"
        },
    )

    def __post_init__(self) -> None:
        if self.bad_rows not in BAD_ROWS:
            raise ValueError(f"bad_rows {self.bad_rows!r}: choose from {', '.join(BAD_ROWS)}")


def optional_packages(args: Any) -> list[str]:
    """Packages beyond requirements.txt that a trl configuration asks for."""
    asked = {tracker: tracker in args.report_to for tracker in ("wandb", "trackio")}
    asked |= {"liger_kernel": args.use_liger_kernel, "vllm": getattr(args, "use_vllm", False)}  # only GRPO has use_vllm
    return [package for package, wanted in asked.items() if wanted]


def require_layers(script: DataArguments, args: Any) -> None:
    """Exit if a package that the run needs is missing; a check only reports it."""
    if script.check is None:
        for package in optional_packages(args):
            require(package)


def run(
    doc: str | None, script_class: type, parse_arguments: Callable[[], tuple[Any, Any, Any]], train: Callable[..., None]
) -> None:
    """What src/grpo.py and src/sft.py do: print the help, check (the data too, unless it is on the hub), or train."""
    if {"-h", "--help"} & set(sys.argv[1:]):
        print_help(doc or "", script_class)
        return
    script, args, model = parse_arguments()
    if script.check is None:
        train(script, args, model)
        return
    from trl_training.checks import refuse_missing_compiler
    from trl_training.resume import find_checkpoint

    refuse_missing_compiler(args)
    find_checkpoint(Path(args.output_dir), args.resume_from_checkpoint)
    if not script.data.startswith("hf://"):
        with redirect_stderr(StringIO()):  # the run itself prints what it drops
            load_records(script.data, script.bad_rows)
    print(*sorted({LAYERS[package] for package in optional_packages(args)}))


@dataclass(frozen=True)
class Batch:
    """One optimizer step; `group` is the completions of a prompt. A configuration names only its sequences, so that the
    same file means the same run on 1, 2, 4 or 8 GPUs."""

    processes: int
    per_device: int
    accumulation: int
    group: int = 1

    @property
    def sequences(self) -> int:
        return self.processes * self.per_device * self.accumulation

    def __str__(self) -> str:
        step = f"{self.processes} process(es) x {self.per_device} per device x {self.accumulation} accumulation"
        if self.group == 1:
            return f"{step} = {self.sequences} examples a step"
        prompts = f"{self.group} generations = {self.sequences // self.group} prompt(s)"
        return f"{step} = {self.sequences} completions a step; / {prompts}"


def plan_batch(processes: int, per_device: int, sequences: int) -> Batch:
    """The batch of `sequences` a step that puts at most `per_device`, or its share, through a process at once."""
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


def batch_of(values: Mapping[str, Any], sequences: int) -> dict[str, int]:
    """trl's keys for `sequences` per step on the processes of this launch, or on as many as `check` names."""
    if values["check"] is not None and values["check"] < 1:
        raise ValueError(f"check {values['check']}: a launch has at least 1 process")
    batch = plan_batch(values["check"] or world_size(), values["per_device_train_batch_size"], sequences)
    given = values["gradient_accumulation_steps"]
    if given not in (1, batch.accumulation):
        raise ValueError(
            f"gradient_accumulation_steps {given} contradicts the {sequences} sequences of a step, which need "
            f"{batch.accumulation}: leave it out"
        )
    # A check is one process, and trl multiplies by the processes that it sees.
    return {
        "per_device_train_batch_size": batch.per_device,
        "gradient_accumulation_steps": sequences // (world_size() * batch.per_device),
    }


def print_help(doc: str, script_class: type) -> None:
    """The script's docstring and its own keys, without heavy imports, so that --help answers at once."""
    print(doc.strip() + "\n\nkeys of this script (in the YAML, or as --key value):")
    for key in fields(script_class):
        default = "required" if key.metadata.get("required") else f"default {key.default}"
        print(f"  {key.name:<24}{key.metadata['help']} ({default})")
    print("\nEvery key of trl's trainer configuration and of ModelConfig works too: --help-all lists them.")
    print("Not supported: quantisation, rsLoRA, extra modules to save or target.")


def _one_line(error: Exception) -> str:
    """What a configuration class objects to."""
    import torch

    text = " ".join(str(error).split())
    if torch.cuda.is_available() or not text.startswith("Your setup doesn't support bf16/gpu"):
        return text
    built = f"for CUDA {torch.version.cuda}" if torch.version.cuda else "without CUDA"
    return (
        f"bf16 needs a GPU, and torch {torch.__version__}, built {built}, finds none: check the driver (nvidia-smi) "
        "and CUDA_VISIBLE_DEVICES, or add --use_cpu true to run without a GPU"
    )


def parse(
    classes: Iterable[Any],
    argv: Sequence[str] | None = None,
    derive: Callable[[Mapping[str, Any]], dict[str, Any]] = lambda values: {},
) -> tuple[Any, ...]:
    """Instances of the dataclasses `classes` from `--config FILE` and the flags, which win.

    `derive` gets the parsed values and returns values that follow from them; it may raise ValueError.
    """
    require("trl")
    from trl import TrlParser

    from trl_training.checks import refuse_lost_updates

    class Parser(TrlParser):
        def error(self, message: str) -> NoReturn:
            fail(message)

    parser = Parser(list(classes), allow_abbrev=False)
    flags, config = split_config(sys.argv[1:] if argv is None else argv)
    if "--help-all" in flags:
        parser.print_help()
        raise SystemExit(0)
    from_file = read_yaml(config) if config else {}
    names = [word.removeprefix("--").partition("=")[0] for word in flags if word.startswith("--")]
    keys = [action.dest for action in parser._actions]
    options = [flag.removeprefix("--") for flag in parser._option_string_actions]
    for where, given, known in ((f"{config}: ", from_file, keys), ("", names, options)):
        if unknown := [key for key in given if key not in known]:
            fail(f"{where}{unknown_key(unknown[0], known)}")
    parser.set_defaults_with_config(**from_file)
    namespace, rest = parser.parse_known_args(flags)
    if rest:
        fail(f"unexpected argument {rest[0]!r}")
    values = vars(namespace)
    try:
        found = parser.parse_dict(values | derive(values))
    except ValueError as error:
        fail(_one_line(error))
    except ImportError as error:  # transformers asks for DeepSpeed when it reads --deepspeed
        layer = "requirements/deepspeed.txt" if "deepspeed" in str(error) else "requirements.txt"
        fail(f"{_one_line(error)}: pip install -r {layer}")
    _, args, model = found
    for key in UNREAD:
        if getattr(model, key):
            fail(f"{key}: not supported here")
    if model.lora_task_type != "CAUSAL_LM":
        fail(f"lora_task_type {model.lora_task_type!r}: only CAUSAL_LM is supported here")
    if not model.model_name_or_path:
        fail("no model: set model_name_or_path")
    if args.hub_token:
        fail("hub_token: would be saved in training_args.bin, which push_to_hub uploads: set HF_TOKEN instead")
    refuse_lost_updates(args, model)
    return found
