"""A causal LM in a folder or on the hub: whether it is there and complete, and how it is loaded.

Every program asks here, so that a model which cannot be used is reported in the same line by all of them.
"""

from __future__ import annotations

import sys
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


class TokenIds(BaseModel):
    """A model's generation_config.json, as far as it is used here."""

    bos_token_id: int | list[int] | None = None
    eos_token_id: int | list[int] | None = None
    pad_token_id: int | None = None


class ModelFolder(TokenIds):
    """A model's config.json, as far as it must be before transformers reads it."""

    model_config = ConfigDict(protected_namespaces=())  # pydantic reserves names in model_
    model_type: str
    max_position_embeddings: float | None = None


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
    if Path(model).is_dir():
        return
    if Path(model).exists():
        raise InputError(f"model {model}: is a file; expected a model's folder")
    if model.startswith(OWN_FOLDERS) or model.count("/") > 1:
        raise InputError(f"model {model}: no such folder")
    prepare_hub()


def refuse_unusable(model: str) -> ModelFolder | None:
    """A model's config.json; None for a name on the hub. Raises InputError if `model` is a path without a model."""
    refuse_absent(model)
    folder = Path(model)
    if is_adapter(folder):
        raise InputError(f"model {model}: an adapter, not a model: merge it with its base first (src/merge_adapter.py)")
    if not folder.is_dir():
        return None
    if not (folder / "config.json").is_file():
        raise InputError(f"model {model}: {folder / 'config.json'} is missing")
    config = read_json(folder / "config.json", ModelFolder)
    if (generation := folder / "generation_config.json").is_file():
        read_json(generation, TokenIds)
    if (index := folder / "model.safetensors.index.json").is_file():
        read_json(index, WeightIndex)
    for path in folder.glob("*.safetensors"):
        with open(path, "rb") as file:
            if file.read(len(LFS)) == LFS:
                raise InputError(f"{path}: a Git LFS pointer instead of the weights: git lfs pull fetches them")
    return config


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
    settings |= {"dtype": dtype, "revision": revision, "output_loading_info": True, "ignore_mismatched_sizes": True}
    to_check = settings.get("device_map") == "meta"
    with loading(model, bar=not to_check):
        found, info = AutoModelForCausalLM.from_pretrained(model, **settings)
    if mismatched := info["mismatched_keys"]:
        name, saved, expected = min(mismatched)
        raise InputError(
            f"model {model}: its files have {name} with shape {list(saved)}, its config.json asks for {list(expected)} "
            f"({len(mismatched)} such weights)"
        )
    if missing := info["missing_keys"]:  # transformers fills them with random numbers, and only warns
        raise InputError(f"model {model}: its files lack {min(missing)} ({len(missing)} such weights)")
    if not to_check and (note := make_savable(found)):
        print(f"model {model}: {note}", file=sys.stderr, flush=True)
    return found


def token_ids(generation: Any) -> Any:
    """A generation configuration with only the token ids of another."""
    from transformers import GenerationConfig

    return GenerationConfig(**{name: getattr(generation, name, None) for name in TokenIds.model_fields})


def make_savable(model: Any) -> str:
    """Keep only the token ids of a generation configuration that contradicts itself; a note if it did.

    Llama 2's has a temperature without do_sample: transformers loads it, and refuses to save it, after the training.
    """
    try:
        model.generation_config.validate(strict=True)
    except ValueError:
        model.generation_config = token_ids(model.generation_config)
        return "its generation_config.json contradicts itself: the saved model keeps only the token ids of it"
    return ""


@contextmanager
def own_sampling(model: Any) -> Iterator[None]:
    """Within the context, `model.generate` samples as its caller asks.

    transformers takes what the caller leaves open, such as no_repeat_ngram_size or min_new_tokens, from the model's
    generation configuration. Here only its token ids count.
    """
    own = model.generation_config
    model.generation_config = token_ids(own)
    try:
        yield
    finally:
        model.generation_config = own


def refuse_overflow(config: Any, tokens: int, what: str) -> None:
    """Raise InputError if `tokens` exceed the model's context, as far as its configuration has it."""
    context = getattr(config, "max_position_embeddings", None)
    if context is not None and tokens > context:
        raise InputError(f"{what}: {tokens} tokens exceed the model's context of {context:g} (max_position_embeddings)")


def load_empty(model: str, revision: str = "main") -> Any:
    """A causal LM without weights, to check it. Of a model on the hub only the configuration is downloaded."""
    import torch
    from transformers import AutoModelForCausalLM

    if Path(model).is_dir():
        return load_base(model, "auto", revision, device_map="meta")
    config = load_config(model, revision)
    with loading(model), torch.device("meta"):
        return AutoModelForCausalLM.from_config(config)
