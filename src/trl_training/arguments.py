"""Command lines that fail early and in one line: TrlParser over a YAML file and flags, made strict.

What TrlParser accepts, this module rejects before any model loads: abbreviated flags, unknown keys (naming the nearest
known one) and values of the wrong type in the YAML. The configuration classes' own errors become one line.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import redirect_stderr
from dataclasses import dataclass, fields
from io import StringIO
from pathlib import Path
from typing import Any, NoReturn, get_args, get_origin, get_type_hints

from common.cli import LAYERS, fail, require, split_config, unknown_key
from common.errors import InputError, message_of
from common.files import require_writable
from common.launch import forget, rendezvous, shown, world_size
from common.models import refuse_absent
from common.settings import flag_value, read_yaml
from records import load_records
from trl_training.own_keys import DataArguments

# Keys of trl's ModelConfig that no script here reads.
UNREAD = ("load_in_4bit", "load_in_8bit", "use_rslora", "lora_modules_to_save", "lora_target_parameters")

OF_GRPO = ("prompts_per_step", "num_generations", "reward", "max_completion_length")
OF_OTHERS = {  # keys that show for which program a configuration is
    **{"examples_per_step": "src/sft.py", "max_length": "src/sft.py", "defaults": "src/dapo.py"},
    **dict.fromkeys(OF_GRPO, "src/grpo.py"),
}


def has_local_loss(config: Mapping[str, Any]) -> bool:
    """Whether the loss has parts that depend on which completions share a micro-batch."""
    has_entropy = config.get("entropy_coef") or config.get("use_adaptive_entropy")
    return bool(config.get("loss_type") == "bnpo" or has_entropy or config.get("top_entropy_quantile", 1.0) != 1.0)


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
    doc: str | None,
    script_class: type,
    parse_arguments: Callable[[], tuple[Any, Any, Any]],
    train: Callable[..., None],
    check: Callable[..., None] = lambda script, args, model: None,
) -> None:
    """What src/grpo.py and src/sft.py do: print the help, check (the data too, unless it is on the hub), or train.

    `check`: a check of the script's own, which `train` makes too.
    """
    if {"-h", "--help"} & set(sys.argv[1:]):
        print_help(doc or "", script_class)
        return
    world_size()  # before the imports
    script, args, model = parse_arguments()
    if script.check is None:
        train(script, args, model)
        return
    from trl_training.checks import check_model, refuse_missing_compiler
    from trl_training.resume import find_checkpoint
    from trl_training.saved_state import check_saved

    refuse_missing_compiler(args)
    if not os.environ.get("DRY_RUN"):  # a launcher's dry run may describe a model that another stage makes
        if Path(model.model_name_or_path).is_dir():
            check_model(args, model)
        else:
            refuse_absent(model.model_name_or_path)
    require_writable(Path(args.output_dir) / "run.json")
    checkpoint, _ = find_checkpoint(Path(args.output_dir), args.resume_from_checkpoint)
    if checkpoint:
        check_saved(checkpoint)
    if not script.data.startswith("hf://"):
        with redirect_stderr(StringIO()):  # the run itself prints what it drops
            load_records(script.data, script.bad_rows)
    check(script, args, model)
    if layers := {LAYERS[package] for package in optional_packages(args)}:
        print(*sorted(layers))


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


def plan_batch(processes: int, per_device: int, sequences: int, group: int = 1) -> Batch:
    """The batch of `sequences` a step that puts at most `per_device`, or its share, through a process at once."""
    share = sequences // processes
    at_once = min(per_device, share)
    if sequences % processes or share % at_once:
        raise ValueError(
            f"{sequences} sequences a step cannot be divided evenly among {processes} process(es) x "
            f"per_device_train_batch_size {per_device}: change per_device_train_batch_size or the number of processes"
        )
    return Batch(processes, at_once, share // at_once, group)


def batch_of(values: Mapping[str, Any], sequences: int) -> dict[str, int]:
    """trl's keys for `sequences` per step on the processes of this launch, or on as many as `check` names."""
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


def check_groups(values: Mapping[str, Any], processes: int) -> None:
    """Raise InputError if vLLM's groups of GPUs cannot be formed; trl checks it after the model has loaded."""
    size = values["vllm_tensor_parallel_size"]
    if values["use_vllm"] and values["vllm_mode"] == "colocate" and processes % size:
        raise InputError(f"vllm_tensor_parallel_size {size}: does not divide the {processes} process(es) of the run")


def print_help(doc: str, script_class: type) -> None:
    """The script's docstring and its own keys, without heavy imports, so that --help answers at once."""
    print(doc.strip() + "\n\nkeys of this script (in the YAML, or as --key value):")
    for key in fields(script_class):
        default = "required" if key.metadata.get("required") else f"default {key.default}"
        print(f"  {key.name:<24}{key.metadata['help']} ({default})")
    print("\nEvery key of trl's trainer configuration and of ModelConfig works too: --help-all lists them.")
    print("Not supported: quantisation, rsLoRA, extra modules to save or target.")


def from_yaml(parser: Any, classes: Iterable[Any], config: str) -> dict[str, Any]:
    """key -> typed value of a YAML file. Raises InputError for an unknown key and for a value of another type."""
    actions = {action.dest: action for action in reversed(parser._actions) if action.dest != "help"}  # not --no_KEY
    hints = {key: hint for each in classes for key, hint in get_type_hints(each).items()}
    values = {}
    for setting in read_yaml(config):
        key, value = setting.key, setting.value
        if key not in actions:
            of_another = f"{key}: a key of {OF_OTHERS[key]}, not of this program" if key in OF_OTHERS else ""
            raise InputError(f"{setting.where}: {of_another or unknown_key(key, actions)}")
        types = [get_origin(hint) or hint for hint in get_args(hints[key])]  # of a union
        if value is None and type(None) not in types:
            raise setting.error("null is not allowed: leave the key out for trl's default")
        # No flag takes a mapping, nor the list of `str | list[str]`.
        as_it_is = isinstance(value, dict) or (isinstance(value, list) and actions[key].nargs is None)
        keep = value is None or (as_it_is and type(value) in types)
        values[key] = value if keep else flag_value(parser, actions[key], setting)
    return values


def objection(error: ValueError) -> str:
    """What a configuration class objects to."""
    import torch

    text = message_of(error)
    if torch.cuda.is_available() or not text.startswith("Your setup doesn't support bf16/gpu"):
        return text
    built = f"for CUDA {torch.version.cuda}" if torch.version.cuda else "without CUDA"
    return (
        f"bf16 needs a GPU, and torch {torch.__version__}, built {built}, finds none: check the driver (nvidia-smi) "
        "and CUDA_VISIBLE_DEVICES, or add --use_cpu true to run without a GPU"
    )


def read_values(classes: Sequence[Any], argv: Sequence[str] | None = None) -> tuple[Any, dict[str, Any]]:
    """(the parser, the value of every key) from `--config FILE` and the flags, which win. Checks each key by itself;
    makes no configuration, which would need the GPU that it is for."""
    require("trl")
    from trl import TrlParser

    from trl_training.values import check_values

    class Parser(TrlParser):
        def error(self, message: str) -> NoReturn:
            fail(message)

    parser = Parser(classes, allow_abbrev=False)
    flags, config = split_config(sys.argv[1:] if argv is None else argv)
    if "--help-all" in flags:
        parser.print_help()
        raise SystemExit(0)
    names = [word.removeprefix("--").partition("=")[0] for word in flags if word.startswith("--")]
    options = [flag.removeprefix("--") for flag in parser._option_string_actions]
    if unknown := [name for name in names if name not in options]:
        fail(unknown_key(unknown[0], options))
    if config:
        parser.set_defaults_with_config(**from_yaml(parser, classes, config))
    namespace, rest = parser.parse_known_args(flags)
    if rest:  # not echoed: it may be the value of a flag, and a secret
        fail("an argument without a flag: every flag starts with --, and takes one value unless it is a list")
    if unread := [key for key in UNREAD if getattr(namespace, key)]:
        fail(f"{unread[0]}: not supported here")
    check_values(vars(namespace))
    return parser, vars(namespace)


def parse(
    classes: Sequence[Any],
    argv: Sequence[str] | None = None,
    derive: Callable[[Mapping[str, Any]], dict[str, Any]] = lambda values: {},
) -> tuple[Any, ...]:
    """Instances of the dataclasses `classes` from `--config FILE` and the flags, which win.

    `derive` gets the parsed values and returns values that follow from them; it may raise ValueError.
    """
    parser, values = read_values(classes, argv)
    from torch.distributed import DistError

    from trl_training import checks

    checks.refuse_environment(values["check"] is not None)
    if values["check"] is not None:
        forget()  # a check is one process
    try:
        derived = derive(values)
        with rendezvous(values["ddp_timeout"]):
            found = parser.parse_dict(values | derived)
    except ValueError as error:
        fail(objection(error))
    except DistError as error:  # the port is taken, the address does not exist
        fail(f"{shown()}: {message_of(error)}")
    except ImportError as error:  # transformers asks for DeepSpeed when it reads --deepspeed
        layer = "requirements/deepspeed.txt" if "deepspeed" in str(error) else "requirements.txt"
        fail(f"{message_of(error)}: pip install -r {layer}")
    _, args, model = found
    refuse_unsupported(model)
    checks.check_arguments(args, model)
    return found


def refuse_unsupported(model: Any) -> None:
    """Exit if a key of ModelConfig asks for something that the scripts here do not do."""
    if model.lora_task_type != "CAUSAL_LM":
        fail(f"lora_task_type {model.lora_task_type!r}: only CAUSAL_LM is supported here")
    if not model.model_name_or_path:
        fail("no model: set model_name_or_path")
