"""preflight's report on a GRPO or SFT run."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import chain
from pathlib import Path

from common.errors import InputError
from common.fit import Place, Report, first_change
from common.footprint import Estimate
from common.model_shape import load_shape
from trl_training import memory
from trl_training.memory_keys import read_keys, refuse, run_of


def report(config: str | None, flags: Sequence[str], place: Place, trainer: str | None = None) -> Report:
    """The estimates for a YAML file and flags. Raises NotModelled, InputError."""
    trainer, keys = read_keys(config, flags, trainer)
    refuse(keys, place.zero)
    shape = load_shape(keys.model_name_or_path, keys.model_revision)
    run = run_of(trainer, keys, shape, place.gpus * place.nodes, place.zero)

    def estimate(one: memory.Run) -> Estimate:
        return memory.estimate(shape, one, place.card, place.nodes)

    def on_more_gpus() -> Iterator[tuple[str, memory.Run]]:
        for gpus in (2, 4, 8):
            if gpus > place.gpus:
                try:
                    yield f"GPUS={gpus}", run_of(trainer, keys, shape, gpus * place.nodes, place.zero)
                except InputError:  # the batch does not divide
                    continue

    found, adapter = estimate(run), run.adapter
    fits, what = found.fits(place.free), "all weights"
    if adapter:
        what = f"{'DoRA' if adapter.dora else 'LoRA'} {adapter.r} on {' '.join(adapter.modules)}"
    singles = chain(memory.alternatives(shape, run, place.card), on_more_gpus(), memory.shorter(run))

    def others(one: memory.Run) -> Iterator[tuple[str, memory.Run]]:
        return chain(memory.alternatives(shape, one, place.card), memory.shorter(one))

    return Report(
        model=keys.model_name_or_path,
        parameters=shape.parameters,
        run=f"{trainer.upper()}, {what}; {run.batch}",
        estimate=found,
        fits=fits,
        change=None if fits else first_change(singles, others, estimate, place.free),
        parts=tuple(memory.seconds(shape, run, place.lengths, place.kind)) if place.kind else (),
        steps=run.steps,
        cpus=(place.gpus * place.nodes, "one for each process"),
        output=Path(keys.output_dir or "."),
    )
