"""DoRA adapters: their configuration, how a policy with one generates, how one is merged.

The paper trains DoRA with r = alpha = 64 (§4.1) and names no target modules; the released script sets none, so peft's
default applies: q_proj and v_proj. Both trainers build their adapter here.

DoRA needs the row norms of W + BA in every forward pass, that is, for every generated token (src/dora.py).
`rollout_policy` avoids this while completions are sampled:

    merge   each target layer gets a merged *copy* of its weight, and afterwards its own tensor back, bit for bit.
            Memory: one more copy of the target weights. It never merges into the base itself, which drifts in bf16.
    cache   the norms are kept while the adapter does not change; no copies.
    stock   unmodified peft and trl.
"""

from __future__ import annotations

import shutil
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from pydantic import BaseModel, PositiveFloat, PositiveInt

from common.errors import InputError, message_of
from common.files import read_json
from common.models import is_adapter, load_base, load_empty, loading, tensor_names

if TYPE_CHECKING:
    from peft import LoraConfig
    from torch.nn import Module


RELEASED_TARGETS = ("q_proj", "v_proj")
GENERATION_MODES = ("merge", "cache", "stock")
DECAYS_MAGNITUDES = (  # the warning about a weight decay above 0
    "also shrinks DoRA's magnitudes, and with them every row of the adapted weights; 0.0 does not"
)


class AdapterConfig(BaseModel):
    """A saved adapter_config.json, as far as it must be before peft reads it."""

    peft_type: Literal["LORA"]
    r: PositiveInt
    lora_alpha: PositiveFloat
    target_modules: list[str] | str | None = None
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
    from dora import FactoredDora

    for layer in adapter_layers(model):
        for name, dora in layer.lora_magnitude_vector.items():
            variant = layer.lora_variant[name]
            if isinstance(variant, FactoredDora):  # its own norms: their rounding differs from torch's
                dora.weight.data = variant.norms(layer, name)
                continue
            A, B = layer.lora_A[name].weight, layer.lora_B[name].weight
            dora.update_layer(base_layer=layer.get_base_layer(), lora_A=A, lora_B=B, scaling=layer.scaling[name])


def adapter_layers(model: Module) -> list[Any]:
    """The layers of `model` that carry an adapter; empty for a model without one."""
    from peft.tuners.lora import LoraLayer

    return [module for module in model.modules() if isinstance(module, LoraLayer)]


@contextmanager
def merged_copies(model: Module, buffers: dict[int, Any] | None = None) -> Iterator[None]:
    """Within the context, adapted layers compute with merged copies of their weights, afterwards with the originals.

    `buffers` keeps the copies, and with them their addresses, for the next time: a captured CUDA graph reads those.
    """
    layers = adapter_layers(model)
    originals = [layer.get_base_layer().weight.data for layer in layers]
    try:
        for i, layer in enumerate(layers):
            layer.merge(safe_merge=True)  # writes a new tensor and leaves the original unchanged
            if buffers is not None:
                weight = layer.get_base_layer().weight
                weight.data = buffers[i].copy_(weight.data) if i in buffers else buffers.setdefault(i, weight.data)
        yield
    finally:
        for layer, original in zip(layers, originals, strict=True):
            layer.get_base_layer().weight.data = original
            layer.merged_adapters.clear()
            layer._caches.clear()  # the norm that peft keeps for its own unmerge


@contextmanager
def kept_norms(model: Module) -> Iterator[None]:
    """Within the context the adapter does not change: norms are computed once, by src/dora.py or by peft."""
    from peft.helpers import DoraCaching

    from dora import fixed_norms

    with DoraCaching(), fixed_norms(model):
        yield


@contextmanager
def rollout_policy(model: Module, how: str, buffers: dict[int, Any] | None = None) -> Iterator[None]:
    """A context to sample from `model` without dropout, in mode `how` (module docstring); restores it afterwards."""
    if how == "stock":
        yield
        return
    was_training = model.training
    model.eval()
    try:
        with merged_copies(model, buffers) if how == "merge" else kept_norms(model):
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


def check_base(model: str, config: LoraConfig | None, revision: str = "main", **settings: Any) -> Any:
    """The model without its weights, with an adapter of `config` (None: without one).

    Raises InputError if the model cannot be loaded, or if peft cannot adapt the target modules in it. Only the model's
    configuration and the headers of its weights are read.
    """
    from peft import inject_adapter_in_model

    empty = load_base(model, "auto", revision, **settings, device_map="meta")
    if config is None:
        return empty
    if isinstance(config.target_modules, set):  # else "all-linear" or a regular expression
        refuse_unknown_targets(config.target_modules, empty, model)
    try:
        return inject_adapter_in_model(config, empty)
    except ValueError as error:  # whose message names the modules
        raise InputError(f"lora_target_modules: not usable in {model}: {message_of(error)[:200]}") from None


def refuse_unknown_targets(targets: Collection[str], empty: Any, model: str) -> None:
    """Raise InputError if one of the names matches no module: peft is content if another does."""
    import torch

    modules = {name.rpartition(".")[2]: module for name, module in empty.named_modules()}
    if unknown := sorted(name for name in targets if name.rpartition(".")[2] not in modules):
        linear = sorted(name for name, module in modules.items() if isinstance(module, torch.nn.Linear))
        raise InputError(f"lora_target_modules {', '.join(unknown)}: {model} has {', '.join(linear)}")


def load_adapter(base: Any, adapter: str | Path, **settings: Any) -> Any:
    """A peft model of a base and an adapter that was saved for it. Raises InputError if they do not fit together."""
    from peft import PeftModel

    with loading(str(adapter)):
        policy = PeftModel.from_pretrained(base, str(adapter), **settings)
    weights = Path(adapter) / "adapter_model.safetensors"
    saved = tensor_names(weights) if weights.is_file() else []
    # peft silently drops what has no place, such as the q_proj of an adapter whose model has them in one qkv_proj.
    if lost := sorted({name for name in saved if ".lora_" in name} - {*lora_names(policy)}):
        raise InputError(
            f"{adapter}: the model has no {lost[0]} ({len(lost)} such weights): an adapter of another model"
        )
    return policy


def lora_names(policy: Any) -> list[str]:
    """The weights of the active adapter, by the names under which peft saves them."""
    from peft import get_peft_model_state_dict

    return list(get_peft_model_state_dict(policy, save_embedding_layers=False))


def check_local(model: str, adapter: str | None, revision: str) -> None:
    """Raise InputError if a model, or an adapter for it, is damaged, or if they do not fit together."""
    empty = load_empty(model, revision)
    if adapter:
        load_adapter(empty, adapter, low_cpu_mem_usage=True, torch_device="cpu")


def load_merged(model: str, adapter: str | Path | None, *, dtype: str = "bfloat16", revision: str = "main") -> Any:
    """A causal LM with `adapter` merged into it (merged in fp32, then cast to `dtype`), or the model alone."""
    import torch

    from dora import use_factored_norms

    if adapter is None:
        return load_base(model, getattr(torch, dtype), revision)
    check_local(model, str(adapter), revision)  # before the weights are read
    policy = load_adapter(load_base(model, torch.float32, revision), adapter)
    use_factored_norms(policy)
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
    (part / "README.md").unlink(missing_ok=True)  # peft's empty model card
    shutil.rmtree(folder, ignore_errors=True)
    part.rename(folder)


def named_adapter(folder: str | Path) -> Path:
    """The peft adapter in a folder. Raises InputError if it holds none."""
    if (found := find_adapter(folder)) is None:
        raise InputError(f"adapter {folder}: no adapter_config.json there")
    return found


def adapter_base(adapter: Path) -> str:
    """The base model that an adapter names. Raises InputError if it names none."""
    base = read_json(adapter / "adapter_config.json", AdapterConfig).base_model_name_or_path
    if not base:
        raise InputError(f"{adapter}: its adapter_config.json names no base model: name it with a flag")
    return base


def find_adapter(folder: str | Path) -> Path | None:
    """The peft adapter in a folder: the folder itself, or `lora_adapter` in it (verl's model merger); None without one.

    Raises InputError if the weights are missing or cut short, or have DoRA and the configuration does not: verl 0.9.1's
    merger omits `use_dora`, and peft would silently drop the magnitudes.
    """
    for place in (Path(folder), Path(folder) / "lora_adapter"):
        if not is_adapter(place):
            continue
        config, weights = read_json(place / "adapter_config.json", AdapterConfig), place / "adapter_model.safetensors"
        is_old = weights.with_suffix(".bin").is_file() and not weights.is_file()
        names = [] if is_old else tensor_names(weights)
        if not config.use_dora and any("lora_magnitude_vector" in name for name in names):
            raise InputError(f"{place}: has DoRA weights: set use_dora to true in its adapter_config.json")
        return place
    return None
