"""A run's configuration beside the one for the paper's run, configs/grpo.yaml, dapo.yaml or sft.yaml."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

CONFIGS = Path(__file__).parents[2] / "configs"
# Where results go, what is logged and how the run is spread over machines: no difference in what is computed.
LEFT_OUT = (
    *("output_dir", "run", "report_to", "logging_steps", "save_strategy", "save_steps", "save_total_limit"),
    *("print_samples", "trainer.", "transfer_queue.", "data.train_files", "data.val_files"),
)
UNKNOWN = "not recorded"  # by the version that ran


@dataclass(frozen=True)
class Setting:
    """A key of a reference configuration."""

    key: str
    value: str
    source: str  # the comment beside it: paper §…, the released script, ours


@dataclass(frozen=True)
class Compared:
    """A setting of a run beside the reference."""

    setting: Setting
    here: str
    differs: bool

    @property
    def is_the_papers(self) -> bool:
        return self.setting.source.startswith(("paper", "released"))


def reference_of(config: Mapping[str, Any]) -> str:
    """The name of the configuration to compare with."""
    if "actor_rollout_ref" in config:
        return "dapo.yaml"
    return "grpo.yaml" if "num_generations" in config else "sft.yaml"


def settings(path: Path) -> list[Setting]:
    """The scalars and lists of a YAML file of this project, with the comment on the line of each."""
    import yaml

    text = path.read_text("utf-8")
    lines = text.split("\n")

    def walk(node: Any, prefix: str) -> Iterator[Setting]:
        for key, value in node.value:
            name = f"{prefix}{key.value}"
            if isinstance(value, yaml.MappingNode):
                yield from walk(value, f"{name}.")
            elif name != "defaults" and "${" not in str(value.value):
                end = value.end_mark
                comment = lines[end.line][end.column :].partition("#")[2].strip()
                yield Setting(name, as_text(loader.construct_object(value, deep=True)), comment)

    loader = yaml.SafeLoader(text)
    return list(walk(loader.get_single_node(), ""))


def as_text(value: object) -> str:
    """A value as the page shows it: lists with commas, numbers in their shortest form."""
    if isinstance(value, list):
        return ", ".join(map(as_text, value))
    if isinstance(value, bool) or value is None:
        return {True: "true", False: "false", None: "null"}[value]
    try:
        return f"{float(str(value)):.12g}"  # 5e-5 is a text in YAML
    except ValueError:
        return str(value)


def value_at(config: Mapping[str, Any], key: str) -> Any:
    """The value of a dotted key. Raises KeyError."""
    value: Any = config
    for part in key.split("."):
        if not isinstance(value, Mapping):
            raise KeyError(key)
        value = value[part]
    return value


def compare(config: Mapping[str, Any], reference: str) -> list[Compared]:
    """The settings that decide what is computed: those that differ first, the paper's before ours."""
    rows = []
    for setting in settings(CONFIGS / reference):
        if setting.key.startswith(LEFT_OUT):
            continue
        try:
            here = as_text(value_at(config, setting.key))
        except KeyError:
            here = UNKNOWN
        rows.append(Compared(setting, here, here not in (setting.value, UNKNOWN)))
    return sorted(rows, key=lambda row: (not row.differs, not row.is_the_papers))
