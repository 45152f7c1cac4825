"""DoRA adapters: their configuration, how a policy with one generates, how one is merged.

The paper trains DoRA with r = alpha = 64 (§4.1) and names no target modules; the released script sets none, so peft's
default applies: q_proj and v_proj. Both trainers build their adapter here.

peft's DoRA recomputes the row norms of W + BA in every forward pass, that is, for every generated token.
`rollout_policy` avoids this while completions are sampled:

    merge   each target layer gets a merged *copy* of its weight, and afterwards its own tensor back, bit for bit.
            Memory: one more copy of the target weights. It never merges into the base itself, which drifts in bf16.
    cache   peft's DoraCaching: BA and the norm are cached while the adapter does not change.
    stock   unmodified peft and trl.
"""

from __future__ import annotations

import shutil
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import BaseModel, ConfigDict

from common.checkpoints import is_adapter
from common.errors import InputError
from common.files import read_json
from common.models import tensor_shapes

if TYPE_CHECKING:
    from peft import LoraConfig
    from torch.nn import Module


RELEASED_TARGETS = ("q_proj", "v_proj")
GENERATION_MODES = ("merge", "cache", "stock")
DECAYS_MAGNITUDES = (  # the warning about a weight decay above 0
    "also shrinks DoRA's magnitudes, and with them every row of the adapted weights; 0.0 does not"
)


class ModelFolder(BaseModel):
    """What is read of a model's config.json."""

    model_config = ConfigDict(protected_namespaces=())  # pydantic reserves names in model_
    model_type: str


class AdapterConfig(BaseModel):
    """What is read of a saved adapter_config.json."""

    base_model_name_or_path: str | None = None
    use_dora: bool = False


def adapter_config(
    r: int = 64,
    alpha: int = 64,
    dropout: float = 0.01,
    target_modules: Sequence[str] | str | None = None,
    *,
    use_dora: bool = True,
) -> LoraConfig:
    """The peft configuration of a DoRA (or plain LoRA) adapter for a causal LM.

    `target_modules`: module names, one name (which trl makes of a list of one), "all-linear", or a regular expression;
    None means the release's q_proj and v_proj.
    """
    from peft import LoraConfig

    targets: str | list[str]
    if isinstance(target_modules, str):  # peft reads a text as a regular expression for whole names
        targets = [target_modules] if target_modules.isidentifier() else target_modules
    else:
        targets = list(target_modules or RELEASED_TARGETS)
    return LoraConfig(
        r=r,
        lora_alpha=alpha,
        lora_dropout=dropout,
        target_modules="all-linear" if targets == ["all-linear"] else targets,
        use_dora=use_dora,
        bias="none",
        task_type="CAUSAL_LM",
    )


def start_from_base(model: Module) -> None:
    """Set DoRA's initial magnitudes to the base's row norms in float32, so that the untrained policy equals the base.

    peft computes them in the base's dtype before it casts the adapter to float32: with a bf16 base each row starts up
    to 0.4 % away from the base, and GRPO's KL starts above 0. Call this before training, while lora_B is zero.
    """
    for layer in adapter_layers(model):
        for name, dora in layer.lora_magnitude_vector.items():
            A, B = layer.lora_A[name].weight, layer.lora_B[name].weight
            dora.update_layer(base_layer=layer.get_base_layer(), lora_A=A, lora_B=B, scaling=layer.scaling[name])


def adapter_layers(model: Module) -> list[Any]:
    """The layers of `model` that carry an adapter; empty for a model without one."""
    from peft.tuners.lora import LoraLayer

    return [module for module in model.modules() if isinstance(module, LoraLayer)]


@contextmanager
def merged_copies(model: Module) -> Iterator[None]:
    """Within the context, adapted layers compute with merged copies of their weights, afterwards with the originals."""
    layers = adapter_layers(model)
    originals = [layer.get_base_layer().weight.data for layer in layers]
    try:
        for layer in layers:
            layer.merge(safe_merge=True)  # writes a new tensor and leaves the original unchanged
        yield
    finally:
        for layer, original in zip(layers, originals, strict=True):
            layer.get_base_layer().weight.data = original
            layer.merged_adapters.clear()
            layer._caches.clear()  # the norm that peft keeps for its own unmerge


@contextmanager
def rollout_policy(model: Module, how: str) -> Iterator[None]:
    """A context to sample from `model` without dropout, in mode `how` (module docstring); restores it afterwards."""
    from peft.helpers import DoraCaching

    if how == "stock":
        yield
        return
    was_training = model.training
    model.eval()
    try:
        with merged_copies(model) if how == "merge" else DoraCaching():
            yield
    finally:
        model.train(was_training)


@contextmanager
def base_weights_kept(model: Module) -> Iterator[None]:
    """Restore the adapted layers' base weights afterwards: trl's vLLM sync merges into them and subtracts again.

    In bf16 the difference does not cancel and adds up step by step (trl#6688). Memory: a copy of the target weights.
    """
    layers = adapter_layers(model)
    originals = [layer.get_base_layer().weight.data.clone() for layer in layers]
    try:
        yield
    finally:
        for layer, original in zip(layers, originals, strict=True):
            layer.get_base_layer().weight.data.copy_(original)


def refuse_unusable(model: str) -> None:
    """Raise InputError if `model` is a path without a model in it. A name on the hub passes."""
    folder = Path(model).expanduser()
    if is_adapter(folder):
        raise InputError(f"model {model}: an adapter, not a model: merge it with its base first (src/merge_adapter.py)")
    if folder.is_dir():
        if not (folder / "config.json").is_file():
            raise InputError(f"model {model}: {folder / 'config.json'} is missing")
        read_json(folder / "config.json", ModelFolder)
    elif model.startswith((".", "/", "~")) or model.count("/") > 1 or folder.exists():
        raise InputError(f"model {model}: no such folder")


@contextmanager
def loading(model: str, *, bar: bool = True) -> Iterator[None]:
    """Turn what transformers, peft and safetensors raise about a model's files into an InputError of one line."""
    from safetensors import SafetensorError
    from transformers.utils import logging

    level, shown = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity_error()  # its report of missing weights is a table; refuse_missing_weights names them
    if not bar:
        logging.disable_progress_bar()
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("error", "Found missing adapter keys")  # peft leaves them at their initial values
            yield
    except (OSError, ValueError, ImportError, RuntimeError, SafetensorError, UserWarning) as error:
        if isinstance(error, InputError):
            raise
        raise InputError(f"model {model} cannot be loaded: {str(error).strip().partition(chr(10))[0]}") from None
    finally:
        logging.set_verbosity(level)
        if shown:
            logging.enable_progress_bar()


def complete(model: str, loaded: tuple[Any, dict[str, Any]]) -> Any:
    """The model of (model, loading info). Raises InputError if its files lack weights: transformers fills these with
    random numbers, and only warns."""
    found, info = loaded
    if missing := info["missing_keys"]:
        raise InputError(f"model {model}: its files lack {min(missing)} ({len(missing)} such weights)")
    return found


def load_base(model: str, dtype: Any, revision: str = "main", **settings: Any) -> Any:
    """A causal LM from a folder or the hub. Raises InputError if it is not there, not complete or not a causal LM."""
    from transformers import AutoModelForCausalLM

    refuse_unusable(model)
    settings |= {"dtype": dtype, "revision": revision, "output_loading_info": True}
    with loading(model, bar=settings.get("device_map") != "meta"):
        loaded = AutoModelForCausalLM.from_pretrained(model, **settings)
    return complete(model, loaded)


def refuse_unknown_targets(model: Module, config: LoraConfig, name: str) -> None:
    """Raise InputError if peft cannot adapt the target modules of `config` in `model`, which it changes."""
    from peft import inject_adapter_in_model

    try:
        inject_adapter_in_model(config, model)
    except ValueError as error:
        targets = ", ".join(sorted(config.target_modules or ()))
        why = " ".join(str(error).split())
        raise InputError(f"lora_target_modules {targets}: not usable in {name}: {why[:200]}") from None


def load_merged(model: str, adapter: str | Path | None, *, dtype: str = "bfloat16", revision: str = "main") -> Any:
    """A causal LM with `adapter` merged into it (merged in fp32, then cast to `dtype`), or the model alone."""
    import torch

    if adapter is None:
        return load_base(model, getattr(torch, dtype), revision)
    from peft import PeftModel

    base = load_base(model, torch.float32, revision)
    with loading(str(adapter)):
        policy = PeftModel.from_pretrained(base, str(adapter))
    return policy.merge_and_unload(safe_merge=True).to(getattr(torch, dtype))


def initial_adapter(model: str, config: LoraConfig, folder: Path, seed: int) -> None:
    """Save the untrained adapter that `config` describes for `model` to `folder`, replacing any other.

    The base is loaded in float32 on the CPU (4 bytes a parameter; 7B: 30 GB), because DoRA's magnitudes start as the
    row norms of the very weights that are trained. The adapter itself is float32.
    """
    import torch
    from peft import get_peft_model

    torch.manual_seed(seed)
    part = folder.with_name(folder.name + ".part")
    base = load_base(model, torch.float32)
    get_peft_model(base, config).save_pretrained(str(part))
    shutil.rmtree(folder, ignore_errors=True)
    part.rename(folder)


def find_adapter(folder: str | Path) -> Path | None:
    """The peft adapter in a folder: the folder itself, or `lora_adapter` in it (verl's model merger); None without one.

    Raises InputError if the weights are missing or cut short, or have DoRA and the configuration does not: verl 0.9.1's
    merger omits `use_dora`, and peft would silently drop the magnitudes.
    """
    for place in (Path(folder), Path(folder) / "lora_adapter"):
        if not is_adapter(place):
            continue
        config, weights = read_json(place / "adapter_config.json", AdapterConfig), place / "adapter_model.safetensors"
        if weights.is_file():
            if not config.use_dora and any("lora_magnitude_vector" in name for name in tensor_shapes(weights)):
                raise InputError(f"{place}: has DoRA weights: set use_dora to true in its adapter_config.json")
        elif not weights.with_suffix(".bin").is_file():
            raise InputError(f"{weights}: no such file")
        return place
    return None
