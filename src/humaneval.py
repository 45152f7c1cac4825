"""HumanEval+ or MBPP+ in one command: draw samples, have evalplus judge them in the sandbox, print pass@1 and pass@5.

    python src/humaneval.py --model runs/grpo --out runs/eval/humaneval --baseline runs/eval/humaneval-base
    python src/humaneval.py --config configs/eval.yaml --model MODEL --out DIR --prompt evalplus --temperature 0 \\
        --samples 1 --max-new-tokens 768                                # as evalplus asks chat models by default
    python src/humaneval.py --reference --out DIR                      # do the reference solutions pass here?
    python src/humaneval.py --judge DIR/samples.jsonl --out DIR        # judge samples that are there

Flags that are not below go to src/generate.py; the same command goes on after an interruption. --baseline puts the
paired change against an earlier run beside the scores, with its interval and the tasks that flipped.

The verdicts are evalplus's (its tests, oracles, limits); pass@k is the unbiased estimate of src/common/estimates.py,
because evalplus prints k = 1, 10, 100 only. "base" is HumanEval's own tests, "plus" those and evalplus's. An answer to
evalplus's prompt is cut and sanitised as evalplus does; one to our prompt is judged as it stands. With neither is the
problem's text put before it: an answer brings its own imports.

evalplus 0.3.1 fails every answer to HumanEval/32: its special case for find_zero goes on to the next input without
noting that this one passed (`continue` in evalplus/eval/__init__.py, unsafe_execute), so the count of passed inputs is
too short and untrusted_check turns the pass into a fail. The ceiling is 163 of 164; scores without that task stand
beside the standard ones.

Time limits are evalplus's too, by the clock: an input has 4 times what its reference took, at least a second; a sample
has a minute for its base inputs and one for the others. On a busy machine right answers fail. So the reference of each
problem is judged beside the samples, and those that do not pass are named: believe the scores where none is.

evalplus needs an environment of its own (requirements/humaneval.txt says why): .venvs/evalplus, which
scripts/evaluate.sh makes, or --python. The data: --data, else $HUMANEVAL_OVERRIDE_PATH or $MBPP_OVERRIDE_PATH, else
what evalplus downloads once. An answer can end or forge evalplus's whole run if it targets it, but not leave the
sandbox. Writes OUT/samples.jsonl, results.json, table.md and verdicts.jsonl.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from common.cli import fail, program
from common.errors import InputError
from common.provenance import describe, sha256
from evaluation.arena.problems import subset
from evaluation.humaneval.problems import FUNCTION_BENCHMARKS, FunctionTask, data_path, load_functions, read_lines
from evaluation.humaneval.report import markdown, summarise, verdict_rows
from evaluation.results import check_owner, fit_ks, made_how, parse_ks, write_results
from evaluation.samples import read_samples
from evaluation.tables import compare, paper_labels
from sandbox import mounts
from sandbox.mounts import InfrastructureError

ROOT = Path(__file__).resolve().parent.parent
JUDGE = ROOT / "src" / "evaluation" / "humaneval" / "judge.py"
OWN_PYTHON = ROOT / ".venvs" / "evalplus" / "bin" / "python"
START_SECONDS = 1800  # imports and the expected outputs
LIMITS = ("workers", "min_time_limit", "gt_time_limit_factor", "sample_seconds")  # flags that evalplus gets


def parse_arguments(argv: list[str] | None = None) -> tuple[argparse.Namespace, list[str]]:
    """(the flags below, those for src/generate.py)"""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False
    )
    parser.error = fail  # type: ignore[method-assign]
    add = parser.add_argument
    add("--benchmark", choices=FUNCTION_BENCHMARKS, default="humaneval")
    add("--data", help="evalplus's file, .jsonl or .jsonl.gz")
    add("--out", type=Path, help="folder of the run")
    add("--judge", type=Path, metavar="FILE", help="judge this samples file; draw none")
    add("--baseline", type=Path, metavar="DIR", help="the --out of an earlier run on the same problems")
    add("--k", help="pass@k for these k (default: 1, and 5 where there are 5 samples)")
    add("--label", help="the row of results/paper.json to compare with, as MODEL/METHOD")
    add("--python", help="interpreter that has evalplus (default: .venvs/evalplus if there, else this one)")
    add("--workers", type=int, help="samples judged at a time (default: half the cores, as evalplus)")
    add("--min-time-limit", type=float, default=1.0, help="seconds an input has at least (default: evalplus's, 1)")
    add("--gt-time-limit-factor", type=float, default=4.0, help="times the reference's time (default: evalplus's, 4)")
    add("--sample-seconds", type=float, default=60, help="base or other inputs of one sample (default: evalplus's, 60)")
    add("--check", action="store_true", help="are evalplus, its data and the sandbox here? Then stop")
    add("--unsafe", action="store_true", help="no sandbox: samples can read and delete your files")
    args, rest = parser.parse_known_args(argv)
    args.python = args.python or str(OWN_PYTHON if OWN_PYTHON.exists() else sys.executable)
    if not (args.out or args.check):
        fail("--out is needed")
    if args.judge and rest:
        fail(f"unrecognized arguments: {' '.join(rest)}")
    if args.workers is not None and args.workers < 1:
        fail("--workers starts at 1")
    parse_ks(args.k)  # a mistake ends here, not after the samples are drawn
    if args.label and args.label not in paper_labels():
        fail(f"--label {args.label}: results/paper.json has {', '.join(paper_labels())}")
    return args, rest


def find_data(args: argparse.Namespace) -> Path:
    """The data file: named, or evalplus's own, downloaded where it is not in its cache. Raises InputError."""
    if path := data_path(args.data, args.benchmark):
        return path
    name = {"humaneval": "human_eval_plus", "mbpp": "mbpp_plus"}[args.benchmark]
    module = {"humaneval": "humaneval", "mbpp": "mbpp"}[args.benchmark]
    code = f"from evalplus.data import get_{name}, {module}\nget_{name}()\nprint({module}._ready_{name}_path())"
    done = subprocess.run([args.python, "-c", code], capture_output=True, text=True, check=False)
    if done.returncode:
        last = (done.stderr.strip().splitlines() or ["it said nothing"])[-1]
        raise InputError(f"--data is needed: evalplus could not download its own: {last}")
    return Path(done.stdout.splitlines()[-1])


def check_evalplus(args: argparse.Namespace) -> None:
    """Stop in one line where evalplus or the sandbox is missing."""
    code = "import importlib.util as u, sys; sys.exit(not u.find_spec('evalplus'))"
    try:
        missing = subprocess.run([args.python, "-c", code], check=False).returncode
    except OSError as error:
        fail(f"--python {args.python}: {error.strerror}")
    if missing:
        fail(
            "evalplus is not installed: python -m venv .venvs/evalplus && "
            ".venvs/evalplus/bin/pip install -r requirements/humaneval.txt"
        )
    with tempfile.TemporaryDirectory(prefix="evalplus-") as folder:
        command, own = judge_command(args, folder)
        done = subprocess.run([*command, "--check"], **own, capture_output=True, text=True, check=False)
    if done.returncode:
        last = (done.stderr.strip().splitlines() or ["it said nothing"])[-1]
        raise InfrastructureError(f"{args.python} cannot import evalplus there: {last}")


def draw(args: argparse.Namespace, data: Path, flags: list[str]) -> Path:
    """Samples by src/generate.py, which ends this program where it fails."""
    out = args.out / "samples.jsonl"
    mine = ["--benchmark", args.benchmark, "--data", str(data), "--out", str(out)]
    done = subprocess.run([sys.executable, str(ROOT / "src" / "generate.py"), *flags, *mine], check=False)
    if done.returncode:
        raise SystemExit(done.returncode)
    return out


def judge_command(args: argparse.Namespace, folder: str) -> tuple[list[str], dict[str, Any]]:
    """(command line, keywords for subprocess.run) of the judge, in the sandbox unless --unsafe."""
    executable = mounts.interpreter(args.python)[0]
    own: dict[str, Any] = {"env": mounts.ENVIRONMENT, "umask": mounts.UMASK, "cwd": folder}
    if args.unsafe:
        command = [executable, "-s", str(JUDGE), "--bare", "--work", f"{folder}/work"]
        return command, {**own, "env": {**mounts.ENVIRONMENT, "HOME": folder, "TMPDIR": folder}}
    rights = ("SETUID", "SETGID") if mounts.ROOT else ()  # to become nobody with
    options = [part for right in rights for part in ("--cap-add", f"CAP_{right}")]
    options += ["--size", str(2**30), "--tmpfs", "/evalplus"]
    command = [*mounts.command(args.python, [JUDGE], options=options), executable, "-s", str(JUDGE)]
    return command, own


def judge(job: dict[str, Any], args: argparse.Namespace) -> dict[str, Any]:
    """evalplus's results (src/evaluation/humaneval/judge.py). Raises InfrastructureError where there are none."""
    count = len(job["samples"]) + len(job["controls"])
    seconds = START_SECONDS + (2 * job["sample_seconds"] + 10) * count / (job["workers"] or 1)
    with tempfile.TemporaryDirectory(prefix="evalplus-") as folder:
        if args.unsafe:
            print("NO SANDBOX (--unsafe): these samples can read and delete your files", file=sys.stderr)
        command, own = judge_command(args, folder)
        text = json.dumps(job).encode()
        try:
            done = subprocess.run(command, **own, input=text, stdout=subprocess.PIPE, timeout=seconds, check=False)
        except subprocess.TimeoutExpired:
            raise InfrastructureError(f"evalplus had not finished after {seconds:.0f} s") from None
    try:
        found = json.loads(done.stdout)
    except ValueError:
        raise InfrastructureError(f"evalplus ended without results, exit status {done.returncode}") from None
    return found


def evaluate(args: argparse.Namespace, samples: Path, data: Path) -> int:
    """Judge the samples, write the results, print the table."""
    started = time.time()
    asked, made = parse_ks(args.k), made_how(samples)
    if made and (made["benchmark"], made["data_sha256"]) != (args.benchmark, sha256(data)):
        fail(f"{samples} was made for {made['benchmark']} and other data than {data}")
    tasks: list[FunctionTask] = subset(load_functions(data), made.get("limit"))
    rows = read_samples(samples, [task.id for task in tasks])
    ks = fit_ks(asked, len(rows) // len(tasks), samples)
    check_owner(args.out, samples, made)
    is_reference = made.get("backend") == "reference"
    wanted = {task.id for task in tasks}
    lines = [line for line in read_lines(data) if json.loads(line)["task_id"] in wanted]
    limits = {key: getattr(args, key) for key in LIMITS}
    job = {
        "dataset": args.benchmark,
        "data": "".join(line if line.endswith("\n") else f"{line}\n" for line in lines),
        "samples": [(row["task_id"], row["code"] or "") for row in rows],
        "controls": [] if is_reference else [(task.id, task.reference) for task in tasks],
        "sanitize": made.get("prompt") == "evalplus",
        **limits,
    }
    found = judge(job, args)
    verdicts, controls = verdict_rows(rows, found["eval"], has_controls=not is_reference)
    mine = {key: str(value) for key, value in vars(args).items() if value is not None}
    result = {
        "benchmark": f"{args.benchmark}+",
        "label": args.label,
        **summarise(verdicts, ks),
        "samples": {"sha256": sha256(samples), "made": made},
        "references_that_fail": controls,
        "executed_with": found["versions"],
        "evalplus": {"data_md5": found["hash"], "unsanitized": found["unsanitized"], **limits},
        "wall_seconds": round(time.time() - started, 1),
        **describe(mine, {str(data): data}, None),
    }

    def table(result: Mapping[str, Any]) -> str:
        against = f"\n\nagainst {args.baseline}:\n\n{compare(args.baseline, args.out)}" if args.baseline else ""
        return markdown(result) + against

    write_results(args.out, result, verdicts, table)
    return 0


@program(InfrastructureError)
def main() -> int:
    args, flags = parse_arguments()
    try:
        check_evalplus(args)
        data = find_data(args)
        if args.check:
            print(f"evalplus, its sandbox and {data} are here")
            return 0
        if args.baseline and not (args.baseline / "results.json").is_file():
            fail(f"--baseline {args.baseline}: no results.json there")
        return evaluate(args, args.judge or draw(args, data, flags), data)
    except InputError as error:
        fail(error)
    except InfrastructureError as error:
        fail(f"the sandbox, not the samples: {error}")


if __name__ == "__main__":
    sys.exit(main())
