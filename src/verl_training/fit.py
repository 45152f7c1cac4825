"""preflight's report on a DAPO run."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from itertools import chain
from pathlib import Path

from omegaconf import DictConfig

from common.fit import Place, Report, first_change
from common.footprint import Estimate
from common.model_shape import load_shape
from verl_training import checks, machine, memory
from verl_training.config import compose


def report(name: str, overrides: Sequence[str], place: Place) -> Report:
    """The estimates for configs/NAME.yaml and Hydra overrides. Raises NotModelled, InputError."""
    given = [one.partition("=")[0] for one in overrides]
    here = {"trainer.n_gpus_per_node": place.gpus, "trainer.nnodes": place.nodes}
    config = compose(name, [*overrides, *(f"{key}={number}" for key, number in here.items() if key not in given)])
    checks.check(config)
    return report_of(config, place)


def report_of(config: DictConfig, place: Place) -> Report:
    """The estimates for a composed configuration."""
    model = config.actor_rollout_ref.model.path
    shape = load_shape(model)
    run = memory.run_of(config, shape)

    def estimate(one: memory.Run) -> Estimate:
        return memory.estimate(shape, one, place.card)

    found, adapter = estimate(run), run.adapter
    fits = found.fits(place.free)
    what = f"DoRA {adapter.r} on {' '.join(adapter.modules)}" if adapter else "all weights"
    more = ((f"GPUS={gpus}", replace(run, gpus=gpus)) for gpus in (2, 4, 8) if gpus > run.gpus)
    singles = chain(memory.alternatives(run), more, memory.with_adapter(run))
    return Report(
        model=model,
        parameters=shape.parameters,
        run=f"DAPO, {what}; {run.prompts} prompts x {run.group} completions a step on {run.all_gpus} GPU(s)",
        estimate=found,
        fits=fits,
        change=None if fits else first_change(singles, memory.alternatives, estimate, place.free),
        parts=tuple(memory.seconds(shape, run, place.lengths, place.kind)) if place.kind else (),
        steps=run.steps,
        cpus=(machine.cpus_needed(config), "or Ray waits forever"),
        output=Path(config.trainer.default_local_dir),
    )
