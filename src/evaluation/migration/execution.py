"""`execution`: a reward that runs a completion's code with its record's check, on the record's new environment.

**Not in the paper**. For each completion, in the scale of EM*:
    +2     the code passes: the check holds, every name of `use` is used, and nothing warns that it is deprecated
    -1.5   it does anything else (src/evaluation/migration/programs.py lists the statuses)
    -2     there is no statement, or the code does not parse

    python src/grpo.py --config configs/grpo.yaml --reward format,execution
    python src/dapo.py reward.custom_reward_function.path=src/evaluation/migration/execution.py \\
        "reward.custom_reward_function.reward_kwargs.reward='format,execution'"

Before training, `prepare` looks up the evidence of every record, in evidence.jsonl beside the data, and makes the
environments, in .venvs of the working directory (several GB for data/train.jsonl). Sandboxes stay open: the last
SERVERS that a thread has used. A record without evidence or check is refused before a model loads.
"""

from __future__ import annotations

import os
import threading
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from pathlib import Path
from typing import Any

from common.errors import InputError
from common.rows import HUB
from curation.evidence import Evidence, evidence_path
from curation.virtualenvs import Locks, Pins, environment, read_locks
from evaluation.migration.problems import load_evidence
from evaluation.migration.programs import program, status
from records import Record
from rewards import MATCH, MISS, NO_PARSE, compute_score_with, extract, has_statement, text_of
from sandbox import Limits, Sandbox

ENVS = Path(".venvs")
LIMITS = Limits(seconds=30)  # a right answer takes one or two seconds, most of it for the import of its library
SERVERS = 8  # open sandboxes of a thread, about 20 MB each
Answer = tuple[str, str, str, str]  # record id, old code, target; the code of a completion, which has a statement


class Execution:
    """The reward, as trl calls it. A thread for each usable core runs programs, each in sandboxes of its own."""

    __name__ = "execution"

    def __init__(self) -> None:
        self.evidence: dict[str, Evidence] = {}
        self.locks: Locks = {}
        self.envs = ENVS
        self._own = threading.local()
        self._pool: ThreadPoolExecutor | None = None

    def prepare(self, data: str, ids: Sequence[str], envs: Path = ENVS) -> None:
        """Read the evidence of these records of `data` and make their environments. Raises InputError."""
        from tqdm import tqdm

        if data.startswith(HUB):
            raise InputError(f"reward execution: {data} has no evidence.jsonl beside it")
        path = evidence_path(Path(data))
        self.envs = envs
        self.evidence, self.locks = load_evidence(path, list(dict.fromkeys(ids))), read_locks(path.parent)
        for pins in tqdm(sorted({one.new_env for one in self.evidence.values()}), desc="environments"):
            self.python(pins)

    @cache  # noqa: B019 (one object for the process)
    def python(self, pins: Pins) -> Path:
        """The interpreter of an environment, which is made if it is not there."""
        return environment(pins, self.envs, self.locks)

    def sandbox(self, pins: Pins) -> Sandbox:
        """This thread's open sandbox for an environment."""
        servers: OrderedDict[Pins, Sandbox] = self._own.__dict__.setdefault("servers", OrderedDict())
        if pins not in servers:
            servers[pins] = Sandbox(python=self.python(pins), limits=LIMITS, needs=None).__enter__()
            if len(servers) > SERVERS:
                servers.popitem(last=False)[1].__exit__()
        servers.move_to_end(pins)
        return servers[pins]

    def close(self) -> None:
        """End the threads, and with each its sandboxes."""
        if self._pool:
            self._pool.shutdown()
            self._pool = None

    def run(self, answer: Answer) -> tuple[str, str]:
        """(status, message) of one answer."""
        identity, old, target, code = answer
        record, evidence = Record("", "", "", "", old, target), self.evidence[identity]
        verdict = self.sandbox(evidence.new_env).run(program(code, record, evidence.check or "", evidence.wrapper))
        return status(verdict, code, record, evidence)

    def run_all(self, answers: Sequence[Answer]) -> dict[Answer, tuple[str, str]]:
        """The status of every answer; equal ones run once."""
        if self._pool is None:
            self._pool = ThreadPoolExecutor(len(os.sched_getaffinity(0)), thread_name_prefix="execution")
        different = list(dict.fromkeys(answers))
        return dict(zip(different, self._pool.map(self.run, different), strict=True))

    def __call__(
        self,
        completions: Sequence[Any],
        target: Sequence[str],
        old_code: Sequence[str],
        record_id: Sequence[str],
        **columns: Any,
    ) -> list[float]:
        codes = [extract(text_of(completion)) for completion in completions]
        answers = [
            (identity, old, new, code) if code and has_statement(code) else None
            for code, old, new, identity in zip(codes, old_code, target, record_id, strict=True)
        ]
        found = self.run_all([answer for answer in answers if answer])
        if "log_extra" in columns:
            said = [": ".join(filter(None, found[one])) if one else "no statement that parses" for one in answers]
            columns["log_extra"]("execution reason", said)
        return [NO_PARSE if one is None else MATCH if found[one][0] == "pass" else MISS for one in answers]


execution = Execution()


def compute_score(
    data_source: str,
    solution_str: str,
    ground_truth: str,
    extra_info: Mapping[str, Any],
    *,
    data: str,
    envs: str,
    reward: str | Sequence[str] = "format,execution",
    weights: Sequence[float] | None = None,
    **kwargs: Any,
) -> dict[str, float]:
    """verl's reward entry: that of src/rewards.py with `execution` as one more name and one more key of the result.

    `data`: the file of the records, which evidence.jsonl lies beside; `envs`: the folder of the environments. Both are
    set by src/dapo.py. `extra_info` holds the record's id and old_code.
    """
    identity = extra_info["record_id"]
    if identity not in execution.evidence:
        execution.prepare(data, [*execution.evidence, identity], Path(envs))
    own, columns = {"execution": execution}, {"old_code": [extra_info["old_code"]], "record_id": [identity]}
    return compute_score_with(own, solution_str, ground_truth, extra_info, columns, reward, weights)
