"""Many programs in several sandboxes at a time."""

from __future__ import annotations

import os
from collections.abc import Sequence
from concurrent.futures import FIRST_EXCEPTION, ThreadPoolExecutor, wait
from typing import Any

from sandbox.client import Sandbox, Verdict


def run_all(
    programs: Sequence[str],
    *,
    needs: Sequence[str] = (),
    workers: int | None = None,
    progress: bool = True,
    **settings: Any,
) -> list[Verdict]:
    """The verdicts on `programs`, in their order, from `workers` sandboxes at a time (default: one per usable core).

    `settings` are those of a Sandbox. Each worker may take the preloaded baseline plus `limits.memory_gb`. The first
    InfrastructureError ends the run.
    """
    from tqdm import tqdm

    verdicts: dict[int, Verdict] = {}
    waiting = iter(range(len(programs)))  # shared by the threads
    workers = min(workers or len(os.sched_getaffinity(0)), len(programs))
    # Only one of them checks what programs can read and import: that takes as long as a program.
    boxes = [Sandbox(**settings, needs=None if i else needs) for i in range(workers)]
    with tqdm(total=len(programs), desc="programs", disable=not progress) as bar:

        def work(box: Sandbox) -> None:
            with box:
                for index in waiting:
                    verdicts[index] = box.run(programs[index])
                    bar.update()

        with ThreadPoolExecutor(max(1, workers)) as pool:
            try:
                futures = [pool.submit(work, box) for box in boxes]
                for future in wait(futures, return_when=FIRST_EXCEPTION).done:
                    future.result()
            finally:  # on an error or Ctrl-C the others stop at once
                for box in boxes:
                    box.close()
    return [verdicts[index] for index in range(len(programs))]


def check_ready(*, workers: int | None = None, **settings: Any) -> None:
    """Start one sandbox with the settings of `run_all`, run its controls and end it."""
    with Sandbox(**settings):
        pass
