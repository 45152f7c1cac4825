"""Settings of the property tests: no hub, no progress bars; and how much a run has tried."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partialmethod

import pytest
from edges import checker


@pytest.fixture(autouse=True, scope="session")
def quiet() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("HF_HUB_OFFLINE", "1")
        from tqdm import tqdm

        patch.setattr(tqdm, "__init__", partialmethod(tqdm.__init__, disable=True))
        yield


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    if checker.counts:
        tried = ", ".join(f"{number:,} {what}" for what, number in sorted(checker.counts.items()))
        terminalreporter.write_line(f"edges: {tried}")
