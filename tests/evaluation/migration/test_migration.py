"""Scores of the miniature migration benchmark, worked out by hand, through the command lines and the real sandbox."""

from __future__ import annotations

import json
import os
import re
import sys
from pathlib import Path

import pytest
from conftest import run_script
from mini_migration import ANSWERS, PROOFS, RENAME, ROOM, SCALE, SUM, WALL, sample_rows, write
from wheels import only

import sandbox
from common.estimates import mean_and_interval
from curation import proof
from curation.evidence import Evidence, read_evidence
from curation.virtualenvs import environment, read_locks
from evaluation.compare import compare
from evaluation.flags import parse_arguments
from evaluation.migration.old_api import names, removed_names, uses_old_api
from evaluation.migration.problems import Migration
from evaluation.migration.score import markdown, measures, run_answers, summarise
from records import Record


@pytest.fixture(scope="module")
def data(tmp_path_factory) -> Path:
    return write(tmp_path_factory.mktemp("mini"))


@pytest.fixture(scope="module")
def envs(tmp_path_factory) -> Path:
    return tmp_path_factory.mktemp("envs")


def score(data: Path, envs: Path, samples: Path, out: Path, *flags: object, check: bool = True):
    command = ["--data", data, "--samples", samples, "--out", out, "--envs", envs, *flags]
    return run_script("score.py", "--benchmark", "migration", *command, env=only(data.parent), check=check)


def write_samples(path: Path, rows: list[dict]) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def result_of(folder: Path) -> dict:
    return json.loads((folder / "results.json").read_text())


@pytest.fixture(scope="module")
def scored(data, envs, tmp_path_factory) -> Path:
    """The folder of a scored run: the sixteen answers of mini_migration."""
    try:
        sandbox.check_ready()
    except sandbox.InfrastructureError as error:
        pytest.skip(f"no sandbox here: {error}")
    folder = tmp_path_factory.mktemp("scored")
    score(data, envs, write_samples(folder / "samples.jsonl", sample_rows()), folder / "out", "--k", "1,2")
    return folder / "out"


def test_every_answer_has_its_verdict(scored):
    rows = [json.loads(line) for line in (scored / "verdicts.jsonl").read_text().splitlines()]
    found = {(row["task_id"], row["sample_id"]): row["status"] for row in rows}
    assert found == {(r.id, i): status for r, answers in ANSWERS.items() for i, (_, status) in enumerate(answers)}
    said = {(row["task_id"], row["sample_id"]): row["detail"] for row in rows}
    assert said[ROOM.id, 1] == "AttributeError: module 'gizmo' has no attribute 'area'"
    assert said[ROOM.id, 2] == "AssertionError"
    assert said[SUM.id, 1] == said[SUM.id, 2] == "DeprecationWarning: use tally"


def test_the_scores(scored):
    """1, 2, 1 and 2 of 4 samples pass: Pass@1 = (1 + 2 + 1 + 2) / 16 = 0.375.

    Pass@2: 1 - C(3, 2) / 6 = 1/2, 1 - C(2, 2) / 6 = 5/6, 1/2, 5/6: mean 2/3.
    Updates, with Pass@1 of their records: surface 1/4 and 1/2, tally 1/4, scale 1/2. Of the 27 equally likely draws of
    three updates, one is tally three times (mean 1/4) and one scale three times (1/2): 3.7 % each, more than 2.5 %, and
    no draw lies beyond them. So the interval is 1/4 to 1/2, to the digit.
    """
    result = result_of(scored)
    assert result["scores"]["pass@1"] == pytest.approx({"mean": 0.375, "low": 0.25, "high": 0.5})
    assert result["scores"]["pass@2"]["mean"] == pytest.approx(2 / 3)
    assert (result["problems"], result["updates"], result["samples_per_problem"]) == (4, 3, 4)
    assert {k: (v["problems"], v["updates"], v["pass@1"]["mean"]) for k, v in result["by_kind"].items()} == {
        "default": (1, 1, 0.5),
        "rename": (3, 2, pytest.approx(1 / 3)),
    }
    assert result["by_kind"]["default"]["pass@1"]["low"] is None  # one update: no interval
    assert result["by_library"]["gizmo"]["pass@1"] == pytest.approx(result["scores"]["pass@1"])
    assert result["verdicts"] == {
        **{"pass": 6, "deprecated": 3, "check": 2, "exit": 2},
        **{"error": 1, "syntax": 1, "no code": 1},
    }
    assert result["rates"] == {"syntax": 1 / 16, "no_code": 1 / 16, "format": 15 / 16, "truncated": 1 / 16}


def test_what_is_measured_without_running(scored):
    """Exact matches: 1, 1 (the second right answer is written otherwise), 1, 1 of 4. Copies: 1, 0, 1, 1 of 4.

    Old API, of answers that parse, where a name is removed: room 1 of 3 (`area`), wall 0 of 4, sum 3 of 4 (`total`);
    scale removes none. Mean over these three records: (1/3 + 0 + 3/4) / 3 = 13/36.
    """
    measures = result_of(scored)["measures"]
    assert measures["em"]["mean"] == 0.25
    assert measures["is_copy"]["mean"] == pytest.approx(3 / 16)
    assert (measures["old_api"]["problems"], measures["old_api"]["mean"]) == (3, pytest.approx(13 / 36))
    tasks = result_of(scored)["tasks"]
    # scale: the copy -1.5, no code -2, the target 2; `gizmo.scale(3, 1)` adds {3 ",", ", 1", 1 )} to the old code's
    # pairs and removes {3 )}: of the needed {3 ",", ", factor", factor =, = 1, 1 )} it has 2, so ra = 2/5, td = 1,
    # F = 2 (2 + 2/5) / (5 + 1 + 3 + 1) = 0.48, DM* = 0.18. Their mean is (-1.5 - 2 + 2 + 0.18) / 4 = -0.33.
    assert tasks[SCALE.id]["dm_star"] == pytest.approx(-0.33)
    # "import gizmo\nsize = gizmo.scale(3, factor=1)" has 13 + 31 = 44 characters; the copy lacks ", factor=1" (10 of
    # them), the positional form "factor=" (7), no code has 0: ES = (34/44 + 0 + 1 + 37/44) / 4.
    assert tasks[SCALE.id]["es"] == pytest.approx((34 / 44 + 1 + 37 / 44) / 4)
    assert tasks[SCALE.id]["old_api"] is None


def test_what_identifies_the_run_and_its_table(scored, data):
    result = result_of(scored)
    [environment] = result["executed_with"]["environments"].items()
    assert environment[0] == "gizmo==2.0"
    assert {name: environment[1][name] for name in ("gizmo", "cog")} == {"gizmo": "2.0", "cog": "1.0"}  # as on record
    assert set(result["data"]) == {str(data), str(data.with_name("evidence.jsonl"))}
    assert {"commit", "versions", "wall_seconds", "command"} <= result.keys()
    assert result["config"]["seconds"] == "120.0"  # not the sandbox's 30: a reference may take long to import
    table = (scored / "table.md").read_text()
    assert table == markdown(result) + "\n"
    for line in (
        "| Pass@1, % | 4 | 37.5 (25.0 to 50.0) |",
        "| still uses the old API, % | 3 | 36.1 (16.7 to 75.0) |",  # surface alone (1/3 + 0) / 2, tally alone 3/4
        "| deprecated | 3 |",
        "| default | 1 | 1 | 50.0 |",
    ):
        assert line in table


@pytest.fixture(scope="module")
def baselines(data, envs, scored, tmp_path_factory) -> dict[str, Path]:
    """Folders of the scored references and of the scored old code, drawn by src/generate.py."""
    folder = tmp_path_factory.mktemp("baselines")
    for name in ("reference", "copy"):
        samples = folder / f"{name}.jsonl"
        run_script("generate.py", "--benchmark", "migration", "--data", data, f"--{name}", "--out", samples)
        score(data, envs, samples, folder / name, "--k", 1)
    return {name: folder / name for name in ("reference", "copy")}


def test_the_reference_scores_everything_and_the_copy_nothing(baselines):
    results = {name: result_of(folder) for name, folder in baselines.items()}
    assert {name: r["scores"]["pass@1"]["mean"] for name, r in results.items()} == {"reference": 1.0, "copy": 0.0}
    assert results["reference"]["verdicts"] == {"pass": 4}
    assert results["copy"]["verdicts"] == {"error": 2, "deprecated": 1, "check": 1}
    measures = {name: {k: v["mean"] for k, v in r["measures"].items()} for name, r in results.items()}
    assert measures["reference"] == {
        **{"em": 1.0, "es": 1.0, "es_star": 2.0, "dm_star": 2.0, "is_copy": 0.0, "old_api": 0.0},
    }
    del measures["copy"]["es"], measures["copy"]["es_star"]
    assert measures["copy"] == {"em": 0.0, "dm_star": -1.5, "is_copy": 1.0, "old_api": 1.0}
    # "import gizmo\nbill = gizmo.tally([1, 2])" has 13 + 26 characters; from total to tally it is 4 edits.
    assert results["copy"]["tasks"][SUM.id]["es"] == pytest.approx(1 - 4 / 39)
    assert results["copy"]["tasks"][SUM.id]["es_star"] == pytest.approx(3.5 * (1 - 4 / 39) - 1.5)
    assert results["copy"]["samples"]["made"]["model"] == "old code"


@pytest.mark.parametrize(
    ("code", "status"),
    [
        (
            "import sys\nassert 'gizmo_old' not in sys.modules\nimport gizmo\nroom = gizmo.surface(2, 3)",
            "pass",
        ),
        ("import gizmo, gizmo_old\nroom = gizmo.surface(2, 3)", "deprecated"),  # it warns at its first import
        ("import gizmo_old\nimport gizmo\nroom = gizmo.surface(2, 3)", "deprecated"),
    ],
)
def test_a_program_finds_nothing_imported_by_the_others(data, envs, scored, code, status):
    evidence = read_evidence(data.with_name("evidence.jsonl"))
    python = environment(["gizmo==2.0"], envs, read_locks(data.parent))  # made when `scored` was
    both = [(ROOM.id, ROOM.new_code), (ROOM.id, code)]
    pins = ("gizmo==2.0",)
    found = run_answers(both, {ROOM.id: ROOM}, evidence, {pins: python}, limits=sandbox.Limits(seconds=30))
    assert [name for name, _ in found] == ["pass", status]


BOX = Record(
    "gizmo",
    "2.0",
    "A box.",
    "`surface` is new: use it.",
    "size = 2 * 3",
    "from gizmo import surface as s\nsize = s(2, 3)",
)


def test_an_addition_is_passed_by_what_uses_it_alone(data, envs, scored):
    """A copy of the old code passes the check, and so does code that only names what is new."""
    fields = {"id": BOX.id, "update": "gizmo-2.0-surface-new", "kind": "addition", "proof": "adopt"}
    pins = {"old_env": ["gizmo==1.0"], "new_env": ["gizmo==2.0"]}
    evidence = Evidence.model_validate({**fields, **pins, "check": "assert size == 6", "use": ["gizmo.surface"]})
    python = environment(["gizmo==2.0"], envs, read_locks(data.parent))
    codes = [BOX.new_code, BOX.old_code, f"from gizmo import surface\n{BOX.old_code}  # surface", "size = 7"]
    samples = [(BOX.id, code) for code in codes]
    given = {BOX.id: BOX}, {BOX.id: evidence}, {("gizmo==2.0",): python}
    found = run_answers(samples, *given, limits=sandbox.Limits(seconds=30))
    unused = ("unused", "does not use gizmo.surface")
    assert found == [("pass", ""), unused, unused, ("check", "AssertionError")]
    # nothing that is old has to go
    assert [measures(code, BOX, "adopt", False)["old_api"] for code in codes] == [None] * 4
    rows = [
        {"task_id": BOX.id, "sample_id": i, "passed": end == "pass", "status": end, "format": True, "truncated": False}
        | measures(code, BOX, "adopt", False)
        for i, (code, (end, _)) in enumerate(zip(codes, found, strict=True))
    ]
    result = summarise({BOX.id: BOX}, {BOX.id: evidence}, rows, [1])
    assert result["by_kind"]["addition"]["pass@1"]["mean"] == 0.25
    assert (result["verdicts"], result["measures"]["old_api"]) == ({"unused": 2, "pass": 1, "check": 1}, None)


UNIT = Record(
    "gizmo",
    "3.0",
    "A price.",
    "`scale` has the new keyword `step`, 10 by default; `step=1` keeps the value.",
    "import gizmo\nprice = gizmo.scale(4)",
    "import gizmo\nprice = gizmo.scale(4, step=1)",
)
STEP = """
import gizmo

def stepped(original):
    def scale(value, factor=1, *, step=10):
        return original(value, factor) * step
    return scale

replace(gizmo, "scale", stepped)
"""


def test_an_invented_update_is_in_force_and_its_note_can_be_withheld(data, envs, scored, tmp_path):
    """In the environment of gizmo 2.0, with the wrapper of evidence that is found beside the records."""
    row = {"id": UNIT.id, "update": "gizmo-3.0-step", "kind": "default", "wrapper": STEP, "use": ["scale(step=)"]}
    pins = {"old_env": ["gizmo==2.0"], "new_env": ["gizmo==2.0"]}  # made when `scored` was
    records = write_samples(tmp_path / "invented.jsonl", [UNIT.to_row()])
    evidence = write_samples(tmp_path / "invented_evidence.jsonl", [{**row, **pins, "check": "assert price == 4"}])
    (tmp_path / "environments.jsonl").write_text((data.parent / "environments.jsonl").read_text())
    results = {}
    for name in ("reference", "copy"):
        samples = tmp_path / f"{name}.jsonl"
        run_script("generate.py", "--benchmark", "migration", "--data", records, f"--{name}", "--out", samples)
        score(records, envs, samples, tmp_path / name, "--k", 1)
        results[name] = result_of(tmp_path / name)
    assert {name: one["verdicts"] for name, one in results.items()} == {"reference": {"pass": 1}, "copy": {"check": 1}}
    assert set(results["copy"]["data"]) == {str(records), str(evidence)}

    # neither an own function nor the original, from the wrapper's closure, is what the note asks for
    codes = [
        UNIT.new_code,
        "def scale(value):\n    return value\nprice = scale(4)",
        "import gizmo\nprice = gizmo.scale.__closure__[0].cell_contents(4, 1)",
        "import gizmo\ngizmo.scale = gizmo.scale.__closure__[0].cell_contents\nprice = gizmo.scale(4)",
    ]
    given = {UNIT.id: UNIT}, read_evidence(evidence)
    python = {("gizmo==2.0",): environment(["gizmo==2.0"], envs, read_locks(data.parent))}
    found = run_answers([(UNIT.id, code) for code in codes], *given, python, limits=sandbox.Limits(seconds=30))
    assert [status for status, _ in found] == ["pass", "unused", "unused", "tampered"]

    samples = tmp_path / "without.jsonl"
    flags = ["--benchmark", "migration", "--data", records, "--copy", "--out", samples]
    done = run_script("generate.py", *flags, "--no-docs")
    assert "The API of gizmo has changed in version 3.0." in done.stderr and "step=1" not in done.stderr
    assert json.loads(samples.with_suffix(".json").read_text())["identity"]["docs"] is False
    assert "another --no-docs" in run_script("generate.py", *flags, check=False).stderr
    score(records, envs, samples, tmp_path / "without", "--k", 1)
    assert "update withheld" in (tmp_path / "without" / "table.md").read_text()


def test_comparing_draws_whole_updates(scored, baselines):
    """Reference - answers, by record: 3/4 and 1/2 (surface), 3/4 (tally), 1/2 (scale): mean 0.625.

    As above the ends are the draws of tally alone, 0.75, and of scale alone, 0.5.
    """
    text = compare([scored, baselines["reference"]])
    assert text.startswith("4 problems: 4 better, 0 worse, 0 equal\n")
    [row] = [line for line in text.splitlines() if line.startswith("| Pass@1 |")]
    assert row == "| Pass@1 | 37.5 | 100.0 | 62.5 (50.0 to 75.0) |"
    # Of the answers 3 in 16 are copies (1/4, 0; 1/4; 1/4 by record), of the references none. The draws reach from
    # surface alone, -1/8 (1 of the 27 draws), to tally and scale alone, -1/4 (8 of 27): each more than 2.5 %.
    assert "| is_copy (4 problems) | 0.188 | 0.000 | -0.188 (-0.250 to -0.125) |" in text


def test_the_miniature_is_proven_as_our_records_are(data, envs, scored, monkeypatch):
    """By curation/proof.py, on both versions: new code clean, old code broken or warning, fine on the old one."""
    for name, value in only(data.parent).items():
        monkeypatch.setenv(name, value)
    evidence = read_evidence(data.with_name("evidence.jsonl"))
    pairs = [(record, evidence[record.id]) for record in PROOFS]
    found = list(proof.prove_all(pairs, proof.ProofSettings(envs, 30)))
    assert [proof.failures(*one) for one in found] == [[]] * 4
    runs = {record: seen for record, _, seen in found}
    assert runs[SUM]["old_on_new"]["outcome"] == "warning"


@pytest.mark.parametrize(
    ("change", "flags", "message"),
    [
        (lambda rows: rows[:-1], [], "incomplete: 1 of 4 tasks lack some of their 4 samples, first "),
        (lambda rows: [*rows, rows[0]], [], "samples.jsonl:17: sample_id: "),
        (lambda rows: [*rows, {**rows[0], "task_id": "other"}], [], "samples.jsonl:17: task_id: other is not in"),
        (lambda rows: rows, ["--k", "5"], "Pass@5 needs 5 samples a problem"),
        (lambda rows: rows, ["--errata", "x"], "--errata: not for migration"),
        (lambda rows: rows, ["--python", "python3"], "--python: not for migration"),
        (lambda rows: rows, ["--evidence", "absent.jsonl"], "absent.jsonl: no such file"),
    ],
)
def test_what_is_refused(data, envs, tmp_path, change, flags, message):
    samples = write_samples(tmp_path / "samples.jsonl", change(sample_rows()))
    done = score(data, envs, samples, tmp_path / "out", "--k", "1", *flags, check=False)
    assert (done.returncode, done.stderr.count("\n")) == (2, 1), done.stderr
    assert message in done.stderr
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda rows: rows[1:], "no evidence for 1 records, first "),
        (lambda rows: [{**rows[0], "check": " "}, *rows[1:]], "evidence.jsonl:1: check: the value is empty"),
        (lambda rows: [{**rows[0], "new_env": "gizmo"}, *rows[1:]], "evidence.jsonl:1: new_env: expected a list"),
        (lambda rows: [*rows, rows[0]], "evidence.jsonl:5: id: "),
        (
            lambda rows: [{**rows[0], "new_env": ["./gizmo.whl"]}, *rows[1:]],
            "evidence.jsonl:1: new_env: expected a list",
        ),
        (lambda rows: [{**rows[0], "new_env": ["gizmo==3.0"]}, *rows[1:]], "pip could not install gizmo==3.0: ERROR: "),
    ],
)
def test_evidence_that_cannot_be_used(data, envs, tmp_path, change, message):
    rows = [json.loads(line) for line in data.with_name("evidence.jsonl").read_text().splitlines()]
    evidence = write_samples(tmp_path / "evidence.jsonl", change(rows))
    samples = write_samples(tmp_path / "samples.jsonl", sample_rows())
    done = score(data, envs, samples, tmp_path / "out", "--k", "1", "--evidence", evidence, check=False)
    assert done.returncode == 2, done.stderr
    assert message in done.stderr.splitlines()[-1]


def test_samples_of_other_data(data, tmp_path):
    samples = tmp_path / "samples.jsonl"
    run_script("generate.py", "--benchmark", "migration", "--data", data, "--copy", "--out", samples)
    changed = tmp_path / "changed.jsonl"
    changed.write_text(data.read_text().replace("An example.", "Another."))
    done = score(changed, tmp_path, samples, tmp_path / "out", "--k", "1", check=False)
    assert "was made for other data than" in done.stderr
    done = run_script("generate.py", "--data", data, "--copy", "--out", tmp_path / "x.jsonl", check=False)
    assert "--copy: not for arena" in done.stderr


def test_the_prompt_is_the_one_that_training_uses():
    task = Migration(ROOM)
    with_docs, without = (task.messages(docs=docs)[1]["content"] for docs in (True, False))
    assert with_docs.startswith("The API of gizmo has changed in version 2.0. This is the update:\n<doc>\n`area` is")
    assert without.startswith("The API of gizmo has changed in version 2.0.\nThe old code:\n```python\nimport gizmo\n")
    assert RENAME not in without


def test_a_model_is_asked_as_it_was_trained(data, tmp_path):
    """Unless --prompt says otherwise; a base model and answers without a model have the paper's wording."""
    run = tmp_path / "run"
    run.mkdir()
    (run / "run.json").write_text(json.dumps({"starts": [{"config": {"prompt": "precise"}}]}))

    def wording(*flags: object) -> str:
        command = ["--benchmark", "migration", "--data", data, "--out", "x.jsonl", "--check", "flags", *flags]
        return parse_arguments([*map(str, command)])[1].prompt

    assert wording("--model", run) == "precise"
    assert wording("--model", run, "--prompt", "paper") == "paper"
    assert wording("--model", "absent/model") == "paper"
    assert wording("--model", "absent/model", "--prompt", "precise") == "precise"
    assert wording("--copy") == wording("--reference") == "paper"
    asked = Migration(ROOM).messages("precise")[1]["content"]
    assert asked.startswith("By version 2.0, the API of gizmo has changed. This is the update:\n<doc>\n`area` is")


def test_an_environment_that_programs_cannot_read_stops_the_run(data, tmp_path):
    """Made under umask 027 it is readable; unreadable or broken, it ends the run. Pass@1 was 0, with status 0."""
    samples, envs = tmp_path / "samples.jsonl", tmp_path / "envs"
    run_script("generate.py", "--benchmark", "migration", "--data", data, "--reference", "--out", samples)
    before = os.umask(0o027)
    try:
        score(data, envs, samples, tmp_path / "out", "--k", 1)
    finally:
        os.umask(before)
    assert result_of(tmp_path / "out")["verdicts"] == {"pass": 4}
    modules = sorted(envs.glob("*/lib/python*/site-packages/gizmo.py"))
    needed = [path for path in modules if "2.0" in (path.parents[3] / "installed.txt").read_text()]

    def stopped(what: str) -> None:
        """It stops in one line about the environment that lacks something, and nothing has run."""
        (tmp_path / "out" / "results.json").unlink(missing_ok=True)
        done = score(data, envs, samples, tmp_path / "out", "--k", 1, check=False)
        last = done.stderr.splitlines()[-1]
        assert done.returncode == 2
        assert re.match(r"score: the sandbox, not the samples: programs \(as user \d+\) cannot import what /", last)
        assert what in last and str(envs) in last
        assert "programs:" not in done.stderr  # the bar of the samples
        assert not (tmp_path / "out" / "results.json").exists()

    if os.getuid() == 0:  # programs run as another user
        needed[-1].chmod(0o640)
        stopped("PermissionError: ")
        needed[-1].chmod(0o644)
    needed[-1].write_text("raise ImportError('broken')")
    stopped("has: gizmo: ImportError: broken")
    needed[-1].unlink()
    stopped("has: gizmo: ModuleNotFoundError: No module named 'gizmo'")


def endings(codes: list[str], **options) -> list[str]:
    """The status of each program in this interpreter."""
    pins = ("here==1",)
    evidence = {"a": Evidence(id="a", update="u", kind="rename", old_env=pins, new_env=pins, check="assert True")}
    answers = [("a", code) for code in codes]
    found = run_answers(answers, {"a": ROOM}, evidence, {pins: Path(sys.executable)}, **options)
    return [status for status, _ in found]


def test_a_model_s_samples(data, envs, scored, random_model, tmp_path):
    """The prompts are those of training; random weights write no answer, and every sample is counted as that."""
    from transformers import AutoTokenizer

    from common.chat import chat_of
    from common.provenance import prompt_hash
    from prompts import migration_messages

    samples = tmp_path / "samples.jsonl"
    flags = ["--max-new-tokens", 6, "--dtype", "float32", "--samples", 2, "--model", random_model]
    command = ["generate.py", "--benchmark", "migration", "--data", data, "--out", samples, *flags]
    run_script(*command)
    tokenizer = AutoTokenizer.from_pretrained(random_model)
    hashes = {record.id: prompt_hash(chat_of(tokenizer).render(migration_messages(record))) for record in PROOFS}
    rows = [json.loads(line) for line in samples.read_text().splitlines()]
    assert {(row["task_id"], row["prompt_sha256"]) for row in rows} == set(hashes.items())
    assert json.loads(samples.with_suffix(".json").read_text())["identity"]["prompt"] == "paper"
    assert "another --prompt" in run_script(*command, "--prompt", "precise", check=False).stderr
    assert "another --no-docs" in run_script(*command, "--no-docs", check=False).stderr
    score(data, envs, samples, tmp_path / "out", "--k", 2)
    result = result_of(tmp_path / "out")
    assert result["verdicts"] == {"no code": 8}
    assert {name: value and value["mean"] for name, value in result["measures"].items()} == {
        **{"em": 0.0, "es": 0.0, "es_star": -2.0, "dm_star": -2.0, "is_copy": 0.0, "old_api": None},
    }


WARN = "warnings.warn('old', FutureWarning)"
SILENCED = [
    f"import warnings\nwarnings.simplefilter('ignore')\n{WARN}",
    f"from warnings import filterwarnings as f\nimport warnings\nf('ignore', category=FutureWarning)\n{WARN}",
    f"import warnings\nwith warnings.catch_warnings():\n    warnings.simplefilter('ignore')\n    {WARN}",
    f"import warnings\nwith warnings.catch_warnings(action='ignore'):\n    {WARN}",
    f"import warnings\nwith warnings.catch_warnings(record=True) as seen:\n    {WARN}\nassert len(seen) == 1",
    f"import warnings\nwarnings.showwarning = print\n{WARN}",
    "import sys, warnings\nwarnings.warn = lambda *a, **k: None\nimport warnings as w\nw.warn('x', FutureWarning)",
]


def test_silencing_a_warning_does_not_help(scored):
    assert endings(SILENCED) == ["deprecated"] * len(SILENCED)


LIBRARY = """import sys, types, warnings
library = sys.modules["library"] = types.ModuleType("library")
exec('''
import warnings
def loud():
    warnings.warn("old", DeprecationWarning)
def quiet():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        loud()
''', vars(library))
"""
ENDINGS = {
    # A library's own silence holds, and so does an answer's filter for what is not a deprecation.
    f"{LIBRARY}library.quiet()": "pass",
    f"{LIBRARY}library.loud()": "deprecated",
    "import warnings\nwarnings.simplefilter('ignore')\nwarnings.warn('x', UserWarning)": "pass",
    "import warnings\nwarnings.simplefilter('error', UserWarning)\nwarnings.warn('x', UserWarning)": "error",
    "x = bytearray(10 << 30)": "memory",
    "while True:\n    pass": "timeout",
    "assert 1 == 2": "assertion",
    "raise SystemExit(('ok', ''))": "exit",
}


def test_other_endings(scored):
    assert dict(zip(ENDINGS, endings(list(ENDINGS), limits=sandbox.Limits(seconds=10)), strict=True)) == ENDINGS


def test_names_of_the_old_api():
    old = "import scipy.linalg as la\nfrom pd import Grouper\nclass A:\n    class Meta:\n        strict = True\n"
    old += 'def mine(data):\n    """Text."""\n    return la.tri(data).append(Grouper(freq="M", n=1))'
    assert names(old) == {
        *("tri", "scipy.linalg.tri", "append", "Grouper", "pd.Grouper", "freq=", "n=", "'M'", "Meta", "strict")
    }
    new = old.replace("scipy.linalg", "numpy").replace('"M"', '"ME"')
    assert removed_names(old, new) == {"scipy.linalg.tri", "'M'"}
    assert uses_old_api("from scipy.linalg import tri as t\nt(3)", old, new) is True
    assert uses_old_api("import numpy\nnumpy.tri(3)", old, new) is False
    assert uses_old_api("x = (", old, new) is uses_old_api(None, old, new) is None
    assert uses_old_api(old, old, f"{old}\nx = 1") is None  # nothing is removed
    assert removed_names(WALL.old_code, WALL.new_code) == {"area", "gizmo.area"}


def test_an_interval_over_clusters():
    """Two clusters, three ones and a zero. Of the four equally likely draws one has the ones twice (mean 1), one the
    zero twice (mean 0): the interval is 0 to 1, and the mean 3/4. Without clusters it is narrower at the low end:
    four zeros of four draws come in 1 of 256 cases."""
    clustered = mean_and_interval([1, 1, 1, 0], ["a", "a", "a", "b"])
    assert clustered == {"mean": 0.75, "low": 0.0, "high": 1.0}
    assert mean_and_interval([1, 1, 1, 0])["low"] == 0.25
    assert mean_and_interval([0.5, 0.5], ["a", "b"]) == {"mean": 0.5, "low": 0.5, "high": 0.5}
