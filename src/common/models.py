"""Is a model there, whole, and does an adapter fit it: checked before anything is loaded.

Checked of a folder: config.json, the table of contents of each weight file, and the files that an index names. Of a
model on the hub only its config.json, which is downloaded.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, PositiveFloat, PositiveInt

from common.errors import InputError
from common.files import read_json
from common.http_client import check_hub_variables

Shapes = Mapping[str, tuple[int, ...]]
LFS = b"version https://git-lfs"
LORA = (".lora_A.weight", ".lora_B.weight")
PREFIX = "base_model.model."  # peft's, before the names of the base model's layers


class ModelConfig(BaseModel):
    """A model's config.json, as far as it must be before transformers reads it."""

    model_type: str


class WeightIndex(BaseModel):
    """model.safetensors.index.json: tensor -> the file that holds it."""

    weight_map: dict[str, str]


class LoraSettings(BaseModel):
    """An adapter_config.json, as far as peft needs it to load LoRA or DoRA."""

    peft_type: Literal["LORA"]
    r: PositiveInt
    lora_alpha: PositiveFloat
    target_modules: list[str] | str | None = None


def reason(error: Exception) -> str:
    """The first sentence of a library's message, which may have many lines."""
    first, *others = str(error).strip().splitlines() or [type(error).__name__]
    return f"{first} {others[0].strip()}" if first.endswith(":") and others else first


def tensor_shapes(path: Path) -> Shapes:
    """The tensors in a safetensors file. Raises InputError if it is damaged."""
    from safetensors import SafetensorError, safe_open

    with open(path, "rb") as file:
        if file.read(len(LFS)) == LFS:
            raise InputError(f"{path}: a Git LFS pointer instead of the weights: git lfs pull fetches them")
    try:
        with safe_open(path, framework="np") as tensors:
            return {name: tuple(tensors.get_slice(name).get_shape()) for name in tensors.keys()}  # noqa: SIM118
    except SafetensorError as error:
        raise InputError(f"{path}: damaged or cut short: {reason(error)}") from None


def check_weights(folder: Path) -> None:
    """Raise InputError if a model's weights are not in the folder, or are damaged."""
    for index in folder.glob("*.index.json"):
        for name in sorted(set(read_json(index, WeightIndex).weight_map.values())):
            if not (folder / name).is_file():
                raise InputError(f"{index}: names {name}, which is not there")
    whole = [path for path in folder.glob("*.safetensors") if not path.name.startswith("adapter_")]
    if not whole and not any(folder.glob("pytorch_model*.bin")):
        raise InputError(f"{folder}: no weights there (*.safetensors or pytorch_model*.bin)")
    for path in sorted(whole):
        tensor_shapes(path)


def load_config(name: str, revision: str = "main") -> Any:
    """transformers' configuration of a model in a folder or on the hub. Raises InputError."""
    if Path(name).is_dir():
        read_json(Path(name) / "config.json", ModelConfig)
    elif name.startswith((".", "/", "~")) or name.count("/") > 1:
        raise InputError(f"model {name}: no such folder")
    else:
        check_hub_variables()
    from huggingface_hub.errors import StrictDataclassError
    from transformers import AutoConfig

    try:
        return AutoConfig.from_pretrained(name, revision=revision)
    except (OSError, ValueError, StrictDataclassError) as error:
        raise InputError(f"model {name}: {reason(error)}") from None


def check_model(name: str, revision: str = "main") -> None:
    """Raise InputError if a model is not in its folder or on the hub, or if its files are damaged."""
    if Path(name).is_dir():
        if not (Path(name) / "config.json").is_file():
            raise InputError(f"model {name}: no config.json there")
        check_weights(Path(name))
    load_config(name, revision)


def check_adapter(folder: Path, name: str, revision: str = "main") -> None:
    """Raise InputError if the LoRA adapter in a folder is damaged or does not fit the layers of a model."""
    read_json(folder / "adapter_config.json", LoraSettings)
    weights = folder / "adapter_model.safetensors"
    if not weights.is_file():
        raise InputError(f"{folder}: no adapter_model.safetensors there")
    found = {key.removeprefix(PREFIX): shape for key, shape in tensor_shapes(weights).items() if key.endswith(LORA)}
    layers = layer_shapes(name, revision)
    known = {key: layers[key.rpartition(".lora_")[0]] for key in found if key.rpartition(".lora_")[0] in layers}
    if not known:
        raise InputError(f"{folder}: none of its layers is in the model {name}: it is an adapter of another model")
    for key, layer in known.items():
        size = found[key][0 if key.endswith(LORA[1]) else -1]
        if size not in layer:
            raise InputError(f"{folder}: {key} has size {size}, the model {name} {layer}: an adapter of another model")


def layer_shapes(name: str, revision: str) -> Shapes:
    """The shapes of a causal LM's layers, by name; no weights are loaded."""
    import torch
    from transformers import AutoModelForCausalLM

    config = load_config(name, revision)
    try:
        with torch.device("meta"):
            model = AutoModelForCausalLM.from_config(config)
    except ValueError as error:  # not a causal LM
        raise InputError(f"model {name}: {reason(error)}") from None
    parts = ((part, getattr(module, "weight", None)) for part, module in model.named_modules())
    return {part: tuple(weight.shape) for part, weight in parts if weight is not None}
