"""The text of a model card (README.md): what the weights beside it are, how they were trained, how to load them.

Names of models, files and commands are other people's text. In Markdown they appear as code only, and the YAML names a
model or a data set only if it can be a repository of the hub.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from common.cli import one_line
from common.provenance import Start
from common.rows import HUB
from common.same_run import matches, method_of

ABOUT = (
    "From an open reproduction of [ReCode](https://arxiv.org/abs/2506.20495): the model learns to follow the API "
    "updates in its prompt."
)
CONFIGS = {  # method -> the file of configs/ that it is compared with, and what that is
    "GRPO": ("configs/grpo.yaml", "the paper's run"),
    "DAPO": ("configs/dapo.yaml", "the paper's run"),
    "SFT": ("configs/sft.yaml", "this project's baseline; the paper gives no settings for SFT"),
}
APART = (  # keys of these files that have a line of their own in the card, or do not change the result
    *("model_name_or_path", "data", "output_dir", "seed", "report_to", "logging_*", "save_*", "print_samples"),
    *("per_device_train_batch_size", "gradient_checkpointing", "ddp_*"),
    *("defaults", "run", "recode.data", "data.train_files", "data.val_files", "data.seed"),
    *("actor_rollout_ref.model.path", "reward.num_workers", "transfer_queue.*", "*.param_offload"),
    *("*.optimizer_offload", "*.gpu_memory_utilization", "*_max_token_len_per_gpu"),
    *("trainer.n_gpus_per_node", "trainer.nnodes", "trainer.save_freq", "trainer.test_freq", "trainer.resume_mode"),
    *("trainer.logger", "trainer.project_name", "trainer.experiment_name", "trainer.default_local_dir"),
    *("trainer.max_actor_ckpt_to_keep", "trainer.val_before_train"),
)
UNNAMED = {  # keys of trl's runs that change the result and that these files leave at their default
    **{"updates_per_generation": 1, "overlong_buffer": None, "max_target_length": None, "reward_weights": None},
    **{"epsilon_high": None, "delta": None, "importance_sampling_level": "token", "mask_truncated_completions": False},
    **{"top_entropy_quantile": 1.0, "min_p": None, "repetition_penalty": 1.0},
    **{"optim": "adamw_torch_fused", "adam_beta1": 0.9, "adam_beta2": 0.999},
}
NOT_SCORED = "When this card was written, no scores of these weights were beside them."


@dataclass(frozen=True)
class Score:
    """One number of a results.json beside the weights."""

    file: str
    benchmark: str
    samples: str  # how many problems and samples
    measure: str
    value: str


@dataclass(frozen=True)
class Facts:
    """What a card reports. `starts`: those of the run, in order; empty if its run.json is not known."""

    name: str
    kind: str  # adapter, merged (by src/merge_adapter.py) or model (all weights)
    base: str | None
    revision: str
    base_is_local: bool
    uses_dora: bool
    starts: Sequence[Start]
    step: int | None
    paper: Mapping[str, Any]  # the file of CONFIGS
    scores: Sequence[Score] = ()
    dtype: str = "bfloat16"

    @property
    def method(self) -> str | None:
        return method_of(self.starts[-1].config) if self.starts else None


def code(text: object) -> str:
    """Any text as Markdown code on one line."""
    line = one_line(text) or " "
    fence = "`" * (max(map(len, re.findall("`+", line)), default=0) + 1)
    pad = " " if line.startswith("`") or line.endswith("`") else ""
    return f"{fence}{pad}{line}{pad}{fence}"


def table(header: Sequence[str], rows: Sequence[Sequence[object]]) -> str:
    """A Markdown table; every cell below the header is code."""
    lines = [header, ["---"] * len(header), *([code(cell).replace("|", "\\|") for cell in row] for row in rows)]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def hub_id(name: str | None) -> str | None:
    """The name if it can be a repository of the hub."""
    from huggingface_hub.utils import HFValidationError, validate_repo_id

    try:
        validate_repo_id(name or "")
    except HFValidationError:
        return None
    return name


def data_set(name: str) -> str | None:
    """The repository of a data set that is named as hf://datasets/OWNER/NAME[@REVISION][/FILE]."""
    owner_and_name = name.removeprefix(HUB).split("@")[0].split("/")[:2]
    return hub_id("/".join(owner_and_name)) if name.startswith(HUB) and len(owner_and_name) == 2 else None


def leaves(node: Mapping[str, Any], path: str = "") -> Iterator[tuple[str, Any]]:
    """(dotted key, value) of nested mappings."""
    for key, value in node.items():
        if isinstance(value, Mapping):
            yield from leaves(value, f"{path}{key}.")
        else:
            yield f"{path}{key}", value


def is_same(a: Any, b: Any) -> bool:
    """Whether two settings are equal. YAML reads 5e-5 as text, and DAPO records absolute paths."""
    try:
        return float(a) == float(b)
    except (TypeError, ValueError):
        return bool(a == b) or (isinstance(a, str) and isinstance(b, str) and a.endswith(f"/{b}"))


def changed(config: Mapping[str, Any], paper: Mapping[str, Any]) -> list[tuple[str, Any, Any]]:
    """(key, value of the run, value of the paper's file) of the settings in which they differ."""
    here, apart = dict(leaves(config)), (*APART, *(() if config.get("use_vllm") else ("vllm_*",)))
    there = UNNAMED | dict(leaves(paper))
    found = [(key, here[key], value) for key, value in there.items() if key in here and not matches(key, apart)]
    return [row for row in found if not is_same(row[1], row[2]) and "${" not in str(row[2])]


def shown(value: Any) -> str:
    """A setting as in YAML."""
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, default=str)


def metadata(facts: Facts) -> str:
    """The YAML at the top of the card. The licence of a base that is merged into the weights is the base's."""
    from huggingface_hub import ModelCardData

    base = None if facts.base_is_local else hub_id(facts.base)
    names = {data_set(name) for start in facts.starts for name in start.data}
    data = sorted(name for name in names if name)
    is_adapter = facts.kind == "adapter"
    found: dict[str, Any] = {"base_model": base, "datasets": data or None}
    if base:
        found["base_model_relation"] = "adapter" if is_adapter else "finetune"
    if not is_adapter:
        link = f"https://huggingface.co/{base}" if base else None
        found |= {"license": "other", "license_name": "see-the-base-model", "license_link": link}
    elif facts.starts:  # trained here
        found["license"] = "mit"
    card = ModelCardData(
        **found,
        library_name="peft" if is_adapter else "transformers",
        pipeline_tag="text-generation",
        tags=["recode", *([facts.method.lower()] if facts.method else []), *(["dora"] if facts.uses_dora else [])],
    )
    return card.to_yaml()


def loading(facts: Facts) -> str:
    """Python that loads the weights."""
    base = one_line(json.dumps(facts.base or "BASE MODEL", ensure_ascii=False))
    lines = ["from transformers import AutoModelForCausalLM, AutoTokenizer", "", 'folder = "path/to/this/folder"']
    if facts.kind == "adapter":
        revision = "" if facts.revision == "main" else f", revision={json.dumps(facts.revision)}"
        lines = [
            "from peft import PeftModel",
            *lines,
            f"base = AutoModelForCausalLM.from_pretrained({base}{revision}, dtype={json.dumps(facts.dtype)})",
            "model = PeftModel.from_pretrained(base, folder)",
        ]
    else:
        lines += [f"model = AutoModelForCausalLM.from_pretrained(folder, dtype={json.dumps(facts.dtype)})"]
    text = "\n".join(["```python", *lines, "tokenizer = AutoTokenizer.from_pretrained(folder)", "```"])
    if facts.kind == "adapter" and facts.base_is_local:
        text += "\n\nThe base is a folder on the machine that trained the adapter, not a repository of the hub."
    if facts.kind == "adapter" and facts.uses_dora:
        text += "\n\nvLLM does not load DoRA adapters: merge this one first, with `src/merge_adapter.py`."
    return text + (
        "\n\nPrompts must be rendered as in training (`src/prompts.py`): they end inside an open `<think>`, which the "
        "model's answer closes."
    )


def origin(start: Start) -> str:
    """The command, the code that ran, and the machine."""
    machine = start.hardware
    commit = f"{code(start.commit)}{', with uncommitted changes' if start.dirty else ''}" if start.commit else "unknown"
    gpus = [gpu.name for gpu in machine.gpus]
    parts = [f"{gpus.count(name)} x {name}" for name in dict.fromkeys(gpus)] or ["no GPU"]
    hardware = ", ".join([*parts, f"{machine.cores} cores of {machine.cpu}", f"{machine.memory_gb} GB of memory"])
    versions = ", ".join(f"{name} {version}" for name, version in start.versions.items() if version)
    return "\n".join(
        [
            f"- Command: {code(start.command)}",
            f"- Commit: {commit}",
            f"- Seed: {code(start.seed)}",
            f"- Hardware: {code(hardware)}",
            f"- Installed: {code(versions)}",
        ]
    )


def training(facts: Facts) -> Iterator[str]:
    """How the weights were trained, section by section."""
    if not facts.starts or facts.method is None:
        yield "## Training\n\nNot recorded: there is no `run.json` of the run that trained it."
        return
    last, (file, what) = facts.starts[-1], CONFIGS[facts.method]
    step = "" if facts.step is None else f", {facts.step} step{'s' * (facts.step != 1)}"
    times = len(facts.starts) - 1
    resumed = f" The run was resumed {times} time(s); this is its last start." if times else ""
    yield f"## Training\n\n{facts.method}{step}.{resumed}"
    yield origin(last)
    data = [[name, entry.get("sha256")] for name, entry in last.data.items()]
    prompts = f"\n\nPrompts: {code(last.prompts)}." if last.prompts else ""
    yield "Data:\n\n" + table(["file", "sha256"], data) + prompts
    rows = [[key, shown(here), shown(there)] for key, here, there in changed(last.config, facts.paper)]
    if rows:
        yield f"Settings that differ from `{file}` ({what}):\n\n" + table(["key", "here", "there"], rows)
    else:
        yield f"The settings are those of `{file}` ({what})."


def summary(facts: Facts) -> str:
    """What the weights are, in a sentence."""
    base = code(facts.base) if facts.base else "an unknown base model"
    if facts.kind == "adapter":
        what = f"A {'DoRA' if facts.uses_dora else 'LoRA'} adapter for {base}"
    elif facts.kind == "merged" and facts.uses_dora:
        what = f"{base} with a DoRA adapter merged into it"
    else:
        what = f"A model made from {base}"
    return f"{what}, trained with {facts.method}." if facts.method else f"{what}."


def card(facts: Facts) -> str:
    """The whole card."""
    rows = [[score.benchmark, score.samples, score.measure, score.value, score.file] for score in facts.scores]
    scored = table(["benchmark", "samples", "measure", "value", "file"], rows)
    licence = "The code that trained it is under the MIT licence"
    if facts.kind == "adapter" and facts.starts:
        licence = "The adapter, and the code that trained it, are under the MIT licence"
    sections = [
        f"# {code(facts.name)}",
        f"{summary(facts)} {ABOUT}",
        f"## Use\n\n{loading(facts)}",
        *training(facts),
        f"## Results\n\n{scored if rows else NOT_SCORED}",
        f"## Licence\n\n{licence}. The base model has its own: see the base model.",
    ]
    return f"---\n{metadata(facts)}\n---\n\n" + "\n\n".join(sections) + "\n"
