"""verl's configuration for DAPO: composed with Hydra from configs/, its keys checked more strictly than verl does.

verl silently ignores unknown keys, such as renamed ones and misspelt ones in a YAML. checks.py checks the values. verl
is not imported here: it chooses its platform when it is imported, from variables that src/dapo.py sets first.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, ListConfig, OmegaConf

from common.errors import InputError

SRC = Path(__file__).resolve().parents[1]
CONFIGS = SRC.parent / "configs"
# Keys that verl reads but does not declare.
UNDECLARED = (
    "reward.reward_kwargs.max_resp_len",
    "reward.reward_kwargs.overlong_buffer_cfg.enable",
    "reward.reward_kwargs.overlong_buffer_cfg.len",
    "reward.reward_kwargs.overlong_buffer_cfg.penalty_factor",
    "reward.reward_kwargs.overlong_buffer_cfg.log",
    "reward.custom_reward_function.reward_kwargs.",  # of any reward; check_reward_keys checks this project's
    "actor_rollout_ref.actor.fsdp_config.mixed_precision.",
    "ray_kwargs.ray_init.",  # any argument of ray.init
)
# Keys that verl 0.9 still declares but no longer reads -> their replacements.
LEGACY = {
    "custom_reward_function": "reward.custom_reward_function",
    "reward_model": "reward.reward_model, reward.reward_manager and reward.reward_kwargs",
    "sandbox_fusion": "reward.sandbox_fusion",
}


@dataclass(frozen=True)
class Adapter:
    """`recode.adapter` and its numbers."""

    r: int
    alpha: int
    dropout: float
    target_modules: list[str] | str


def one_line(error: BaseException) -> str:
    """An exception's message without its line breaks."""
    return " ".join(str(error).split())


def verl_folder() -> Path:
    """The folder of verl's own YAML files, found without importing verl."""
    spec = find_spec("verl")
    if spec is None or spec.origin is None:
        raise ModuleNotFoundError("verl is not installed", name="verl")
    return Path(spec.origin).parent / "trainer" / "config"


def compose(name: str, overrides: Sequence[str] = (), folder: Path = CONFIGS) -> DictConfig:
    """folder/NAME.yaml over verl's defaults, with Hydra overrides. Raises InputError."""
    defaults = verl_folder()
    from hydra import compose as hydra_compose
    from hydra import initialize_config_dir
    from hydra.core.global_hydra import GlobalHydra
    from hydra.errors import HydraException

    name = name.removesuffix(".yaml")
    if not (folder / f"{name}.yaml").is_file():
        raise InputError(f"--config-name {name}: no configs/{name}.yaml")
    GlobalHydra.instance().clear()
    try:
        with initialize_config_dir(str(folder), version_base=None):
            searchpath = f"hydra.searchpath=[file://{defaults}]"
            return hydra_compose(name, overrides=[searchpath, *overrides])
    except HydraException as error:
        raise InputError(one_line(error)) from None


def plain(config: DictConfig, *, resolve: bool = True) -> dict[str, Any]:
    """The configuration as dicts, lists and values."""
    container = OmegaConf.to_container(config, resolve=resolve)
    assert isinstance(container, dict)
    return {str(key): value for key, value in container.items()}


def leaves(node: Any, path: str = "") -> Iterator[tuple[str, Any]]:
    """(dotted path, value) of every leaf; an empty mapping is a leaf."""
    if isinstance(node, dict) and node:
        for key, value in node.items():
            yield from leaves(value, f"{path}.{key}" if path else str(key))
    else:
        yield path, node


def _allowed(path: str, known: set[str], open_nodes: set[str]) -> bool:
    if path in known or any(path == key or (key.endswith(".") and path.startswith(key)) for key in UNDECLARED):
        return True
    parents = [path.rsplit(".", n)[0] for n in range(1, path.count(".") + 1)]
    return any(parent in open_nodes for parent in parents)


def check_keys(config: DictConfig) -> None:
    """Reject keys that neither verl nor this project reads. Raises InputError."""
    container = plain(config, resolve=False)
    for name, now in LEGACY.items():
        set_here = [path for path, value in leaves(container.get(name), name) if value is not None]
        if set_here:
            raise InputError(f"{set_here[0]}: verl 0.9 accepts this key and ignores it; it is now {now}")
    base = list(leaves(plain(compose("ppo_trainer", folder=verl_folder()), resolve=False)))
    known, open_nodes = {path for path, _ in base}, {path for path, value in base if value == {}}
    own = set(OmegaConf.load(CONFIGS / "dapo.yaml").recode)
    for path, _ in leaves(container):
        top, _, rest = path.partition(".")
        if top == "recode":
            if rest not in own:
                near = difflib.get_close_matches(rest, own, n=1)
                raise InputError(f"unknown key {path!r}" + (f": did you mean {top}.{near[0]}?" if near else ""))
        elif path != "run" and not _allowed(path, known, open_nodes):
            near = difflib.get_close_matches(path, known, n=1)
            raise InputError(f"unknown key {path!r}" + (f": did you mean {near[0]!r}?" if near else ""))


def adapter_of(config: DictConfig) -> Adapter | None:
    """The DoRA adapter that the run trains, or None for full weights."""
    recode = config.recode
    if recode.adapter == "full":
        return None
    modules = recode.lora_target_modules
    modules = list(modules) if isinstance(modules, ListConfig) else modules
    return Adapter(recode.lora_r, recode.lora_alpha, recode.lora_dropout, modules)


def algorithm_line(config: DictConfig) -> str:
    """The algorithm that will run, in one line."""
    actor, groups, recode = config.actor_rollout_ref.actor, config.algorithm.filter_groups, config.recode
    batch, n, mini = config.data.train_batch_size, config.actor_rollout_ref.rollout.n, actor.ppo_mini_batch_size
    sampling = "off: not DAPO"
    if groups.enable:
        sampling = f"on {groups.metric}, at most {groups.max_num_gen_batches} x {batch} prompts a step"
    adapter = "full weights" if recode.adapter == "full" else f"DoRA {recode.lora_r}/{recode.lora_alpha}"
    kl = "no KL"
    if actor.use_kl_loss or config.algorithm.use_kl_in_reward:
        kl = "with KL: not DAPO"
    return (
        f"{batch} prompts x {n} completions a step, {batch // mini * actor.ppo_epochs} update(s); "
        f"dynamic sampling {sampling}; clip [{actor.clip_ratio_low}, {actor.clip_ratio_high}] c={actor.clip_ratio_c}; "
        f"loss {actor.loss_agg_mode}; {kl}; {adapter}, lr {actor.optim.lr}"
    )
