"""Settings of the property tests: no hub, no progress bars; and how much a run has tried."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partialmethod

import pytest


@pytest.fixture(autouse=True, scope="session")
def quiet() -> Iterator[None]:
    from tqdm import tqdm

    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("HF_HUB_OFFLINE", "1")
        patch.setattr(tqdm, "__init__", partialmethod(tqdm.__init__, disable=True))
        yield


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    from edges.checker import counts  # not earlier: it reads the profile, which pytest chooses after this file is read

    if counts:
        tried = ", ".join(f"{number:,} {what}" for what, number in sorted(counts.items()))
        terminalreporter.write_line(f"edges: {tried}")
