"""A causal LM in a folder or on the hub: whether it is there and complete, and how it is loaded.

Every program asks here, so that a model which cannot be used is reported in the same line by all of them.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict

from common.errors import InputError
from common.files import read_json
from common.http_client import prepare_hub

LFS = b"version https://git-lfs"
OWN_FOLDERS = (".", "/", "~", "runs/", "models/")  # a name that starts so is a path, not OWNER/NAME on the hub
LONGEST = 300  # characters of a library's message that an error quotes


class ModelFolder(BaseModel):
    """A model's config.json, as far as it must be before transformers reads it."""

    model_config = ConfigDict(protected_namespaces=())  # pydantic reserves names in model_
    model_type: str


class WeightIndex(BaseModel):
    """model.safetensors.index.json, as far as it is needed."""

    weight_map: dict[str, str]  # tensor -> the file that holds it
    metadata: dict[str, Any]  # transformers fails without it


def is_adapter(folder: str | Path) -> bool:
    """Whether `folder` holds a peft adapter."""
    return (Path(folder) / "adapter_config.json").is_file()


def tensor_names(path: Path) -> list[str]:
    """The tensors in a safetensors file. Raises InputError if it is missing or damaged."""
    from safetensors import SafetensorError, safe_open

    if not path.is_file():
        raise InputError(f"{path}: no such file")
    try:
        with safe_open(path, framework="np") as tensors:
            return list(tensors.keys())
    except SafetensorError as error:
        raise InputError(f"{path}: damaged or cut short: {reason(error)}") from None


def refuse_absent(model: str) -> None:
    """Raise InputError if `model` is the path of no folder. A name on the hub passes."""
    folder = Path(model).expanduser()
    if folder.is_dir():
        return
    if model.startswith(OWN_FOLDERS) or model.count("/") > 1 or folder.exists():
        raise InputError(f"model {model}: no such folder")
    prepare_hub()


def refuse_unusable(model: str) -> None:
    """Raise InputError if `model` is a path without a model in it. A name on the hub passes."""
    refuse_absent(model)
    folder = Path(model).expanduser()
    if is_adapter(folder):
        raise InputError(f"model {model}: an adapter, not a model: merge it with its base first (src/merge_adapter.py)")
    if not folder.is_dir():
        return
    if not (folder / "config.json").is_file():
        raise InputError(f"model {model}: {folder / 'config.json'} is missing")
    read_json(folder / "config.json", ModelFolder)
    if (index := folder / "model.safetensors.index.json").is_file():
        read_json(index, WeightIndex)
    for path in folder.glob("*.safetensors"):
        with open(path, "rb") as file:
            if file.read(len(LFS)) == LFS:
                raise InputError(f"{path}: a Git LFS pointer instead of the weights: git lfs pull fetches them")


def reason(error: Exception) -> str:
    """The first sentence of a library's message, which may have many lines."""
    first, *others = str(error).strip().splitlines() or [type(error).__name__]
    return (f"{first} {others[0].strip()}" if first.endswith(":") and others else first)[:LONGEST]


@contextmanager
def loading(model: str, *, bar: bool = True) -> Iterator[None]:
    """Turn what transformers, peft and safetensors raise about a model's files into an InputError of one line."""
    from transformers.utils import logging

    level, shown = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity_error()  # its report of missing weights is a table; load_base names one
    if not bar:
        logging.disable_progress_bar()
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("error", "Found missing adapter keys")  # peft leaves them at their initial values
            yield
    except InputError:
        raise
    except Exception as error:  # the files are the user's, and the libraries report broken ones with any exception
        raise InputError(f"model {model}: cannot be loaded: {reason(error)}") from None
    finally:
        logging.set_verbosity(level)
        if shown:
            logging.enable_progress_bar()


def load_config(model: str, revision: str = "main") -> Any:
    """transformers' configuration of a model. Raises InputError."""
    from transformers import AutoConfig

    refuse_unusable(model)
    with loading(model):
        return AutoConfig.from_pretrained(model, revision=revision)


def load_base(model: str, dtype: Any, revision: str = "main", **settings: Any) -> Any:
    """A causal LM. Raises InputError if it is not there, not complete or not a causal LM.

    With `device_map="meta"` only its configuration and the headers of its weights are read.
    """
    from transformers import AutoModelForCausalLM

    refuse_unusable(model)
    settings |= {"dtype": dtype, "revision": revision, "output_loading_info": True}
    with loading(model, bar=settings.get("device_map") != "meta"):
        found, info = AutoModelForCausalLM.from_pretrained(model, **settings)
    if missing := info["missing_keys"]:  # transformers fills them with random numbers, and only warns
        raise InputError(f"model {model}: its files lack {min(missing)} ({len(missing)} such weights)")
    make_savable(found)
    return found


def make_savable(model: Any) -> None:
    """Keep only the token ids of a generation configuration that contradicts itself.

    Llama 2's has a temperature without do_sample: transformers loads it, and refuses to save it, after the training.
    What samples here sets everything itself.
    """
    from transformers import GenerationConfig

    found = model.generation_config
    try:
        found.validate(strict=True)
    except ValueError:
        ids = {f"{name}_token_id": getattr(found, f"{name}_token_id", None) for name in ("bos", "eos", "pad")}
        model.generation_config = GenerationConfig(**ids)


def load_empty(model: str, revision: str = "main") -> Any:
    """A causal LM without weights, to check it. Of a model on the hub only the configuration is downloaded."""
    import torch
    from transformers import AutoModelForCausalLM

    if Path(model).is_dir():
        return load_base(model, "auto", revision, device_map="meta")
    config = load_config(model, revision)
    with loading(model), torch.device("meta"):
        return AutoModelForCausalLM.from_config(config)
