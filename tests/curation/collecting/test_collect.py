"""src/collect.py against a real HTTP server: every stage rejects what it should, and a kill loses nothing."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest
from conftest import ROOT, run_script
from tidemark import ANSWERS, NOTES, behave, command, rows

from collect import collect_all
from common.completion import Sampling
from common.endpoint import Endpoint
from common.errors import InputError
from curation.collecting.conversation import FOLDER, Collector, CollectSettings, messages, read_prompt
from curation.collecting.log import Log, rates, register_start
from curation.collecting.proposals import CheckResult
from curation.proof import ProofSettings


@pytest.fixture
def copied(whole, tmp_path, serve):
    """The same folder to go on with: (a fresh server, the folder)."""
    return serve(behave), Path(shutil.copytree(whole[1], tmp_path / "copied"))


def test_every_stage_rejects_and_what_is_repaired_is_accepted(whole):
    asked, out, said = whole
    logged = rows(out / "rounds.jsonl")
    found = [(row["job"].count("/"), row["cause"], row["verdict"], row["problems"]) for row in logged]
    environment_error = "AttributeError: module 'tidemark' has no attribute"
    assert found == [
        # level_at: stated at once; a pair without a check, one without a change, then a good one
        (0, "start", "accepted", []),
        (1, "start", "format", ["<check> is missing or not closed"]),
        (1, "error", "validate", ["<new_code>: the same program as old_code"]),
        (1, "error", "accepted", []),
        # mean_of: an unknown kind, repaired; three pairs that cannot be proven
        (
            *(0, "start", "validate"),
            ["<kind> is not one of rename, move, signature, default, removal, behaviour: renaming"],
        ),
        (0, "error", "accepted", []),
        (1, "start", "prove", [f"the new code is not clean on the new version: {environment_error} 'average'"]),
        (
            *(1, "error", "prove"),
            [
                "the old code still runs clean on the new version, and no check tells the two apart",
                f"the old code does not run on the old version: {environment_error} 'mean'",
            ],
        ),
        (
            *(1, "error", "prove"),
            [
                "the new code is not clean on the new version: AssertionError",
                "the old code does not run on the old version: AssertionError",
            ],
        ),
        # rounded: a check that passes on an empty program, then a good one
        (0, "start", "accepted", []),
        (1, "start", "prove", ["the check passes without the code: it must fail on an empty program"]),
        (1, "error", "accepted", []),
        # fast_path: nothing to migrate
        (0, "start", "none", ["it only got faster"]),
    ]
    assert len(asked) == 13
    # 4 of 6 paragraphs kept; 3 of 4 updates (2 of them at once); 2 of 3 pairs, neither at once
    assert "release notes: 6 paragraphs, 4 look like an API change" in said
    assert "updates stated: 3 of 4 accepted (75%), 2 in the first round; 1 no update; 0 rejected" in said
    assert "pairs written: 2 of 3 accepted (67%), 0 in the first round; 0 no update; 1 rejected" in said
    summary = json.loads((out / "summary.json").read_text())
    assert (summary["paragraphs"], summary["kept"]) == (6, 4)
    assert summary["pair"]["answers_by_verdict"] == {"prove": 4, "accepted": 2, "format": 1, "validate": 1}
    assert summary["pair"]["problems"]["the old code does not run on the old version"] == 2
    left = {row["text"].split()[0]: row["left_out"] for row in rows(out / "candidates.jsonl")}
    assert left["Better"] == "names no API"
    assert left["`octo_cat`"] == "in a section about something else"


def test_what_a_failed_round_is_told_and_what_is_proposed(whole):
    asked, out, _ = whole
    repair = asked[2]["messages"]
    assert [message["role"] for message in repair] == ["system", "user", "assistant", "user"]
    assert repair[2]["content"] == ANSWERS["level_at"]["pair"][0]
    assert "- <check> is missing or not closed" in repair[3]["content"]
    assert "tidemark 2.0" in repair[1]["content"] and "tidemark 1.0" in repair[1]["content"]
    third = asked[3]["messages"]  # the last answer alone: prompts do not grow
    assert len(third) == 4 and third[2]["content"] == ANSWERS["level_at"]["pair"][1]
    first, second = rows(out / "proposed.jsonl")
    assert first["record"] == {
        "dependency": "tidemark",
        "new_version": "==2.0",
        "description": "The level at two o'clock.",
        "update_info": "`tidemark.level_at` has changed in 2.0: use `level`, `mean` or `digits` instead.",
        "old_code": "import tidemark\nhigh = tidemark.level_at('quay', 2)",
        "new_code": "import tidemark\nhigh = tidemark.level('quay', 2)",
    }
    evidence = first["evidence"]
    assert (evidence["update"], evidence["kind"], evidence["check"]) == (
        *("tidemark-2.0-level-at", "rename"),
        "assert high == 5",
    )
    assert (evidence["old_env"], evidence["new_env"]) == (["tidemark==1.0"], ["tidemark==2.0"])
    assert evidence["source"] == "tidemark 2.0 release notes"
    assert {name: run["outcome"] for name, run in evidence["seen"].items()} == {
        "new_on_new": "ok",
        "old_on_new": "error",
        "old_on_old": "ok",
        "new_on_old": "error",
    }
    assert second["evidence"]["seen"]["old_on_new"]["outcome"] == "check"  # 3.14; the old default gave 3.0


def test_the_same_command_again_asks_nothing(copied, notes, offline, envs):
    server, out = copied
    before = {path.name: path.read_bytes() for path in out.glob("*.jsonl")}
    url = server.url.replace("http://", "http://me:pass-word@")
    run_script("collect.py", *command(notes, url, out, envs), env=offline)
    assert server.bodies == []
    assert {path.name: path.read_bytes() for path in out.glob("*.jsonl")} == before
    starts = json.loads((out / "run.json").read_text())["starts"]
    assert len(starts) == 2
    assert starts[1]["config"]["url"] in starts[1]["command"] and "://***@127.0.0.1:" in starts[1]["config"]["url"]
    assert "pass-word" not in (out / "run.json").read_text()


def test_more_rounds_open_what_was_given_up(copied, notes, offline, envs):
    server, out = copied
    run_script("collect.py", *command(notes, server.url, out, envs), "--rounds", 4, env=offline)
    assert len(server.bodies) == 1
    assert "AssertionError" in server.bodies[0]["messages"][3]["content"]


def test_killed_and_started_again_it_ends_as_if_nothing_had_happened(whole, serve, notes, tmp_path, offline, envs):
    _, reference, _ = whole
    out, reached, go_on = tmp_path / "killed", threading.Event(), threading.Event()

    def behave_slowly(number: int, body: dict) -> tuple:
        if len(server.bodies) == 8 and not go_on.is_set():  # mean_of's second pair
            reached.set()
            go_on.wait(120)
        return behave(number, body)

    server = serve(behave_slowly)
    flags = [str(flag) for flag in command(notes, server.url, out, envs)]
    process = subprocess.Popen(
        [sys.executable, str(ROOT / "src" / "collect.py"), *flags], cwd=ROOT, env={**os.environ, **offline}
    )
    assert reached.wait(120)
    process.send_signal(signal.SIGKILL)
    process.wait()
    go_on.set()
    assert len(rows(out / "rounds.jsonl")) == 7
    with open(out / "rounds.jsonl", "a") as file:
        file.write('{"round": "cut in the mid')
    (out / "proposed.jsonl").unlink()  # derived: written again
    run_script("collect.py", *flags, env=offline)
    for name in ("rounds.jsonl", "proposed.jsonl", "candidates.jsonl"):
        assert (out / name).read_bytes() == (reference / name).read_bytes()
    assert len(server.bodies) == 13 + 1  # only the answer under way was asked for again


def test_a_server_that_refuses_ends_in_one_line_and_keeps_what_is_there(serve, notes, tmp_path, offline, envs):
    def refuse(number: int, body: dict) -> tuple:
        return behave(number, body) if len(server.bodies) < 4 else (401, {}, b"no", 0)

    server = serve(refuse)
    done = run_script(
        "collect.py", *command(notes, server.url, tmp_path / "out", envs), "--tries", 1, env=offline, check=False
    )
    assert done.returncode == 2
    assert "status 401 (no key was sent: see --key-variable): no; run the same command again to resume" in done.stderr
    assert len(rows(tmp_path / "out" / "rounds.jsonl")) == 3


def test_a_provider_s_failure_is_not_an_answer(serve, notes, tmp_path, offline, envs):
    """The fourth answer is an error under status 200: no round, and the same command asks again."""
    failing = True

    def fail_once(number: int, body: dict) -> tuple:
        if not failing or len(server.bodies) < 4:
            return behave(number, body)
        message = {"role": "assistant", "content": ""}
        return 200, {}, {"choices": [{"message": message, "finish_reason": "error"}], "error": "upstream is down"}, 0

    server = serve(fail_once)
    flags = [*command(notes, server.url, tmp_path / "out", envs), "--tries", 1, "--concurrency", 1]
    done = run_script("collect.py", *flags, env=offline, check=False)
    assert done.returncode == 2
    assert "finish_reason error: upstream is down (1 try); run the same command again to resume" in done.stderr
    assert len(rows(tmp_path / "out" / "rounds.jsonl")) == 3
    failing = False
    run_script("collect.py", *flags, env=offline)
    assert len(server.bodies) == 13 + 1


def settings(rounds: int = 1) -> CollectSettings:
    sampling = Sampling(temperature=0.0, top_p=1.0, max_new_tokens=9)
    return CollectSettings(1, rounds, seed=1, sampling=sampling, concurrency=1, proof=ProofSettings(FOLDER))


def test_any_error_ends_the_run(tmp_path):
    """Three paragraphs, one at a time: the first one raises, and the others stop."""

    class Broken(Collector):
        def collect(self, paragraph):
            if paragraph == 0:
                raise RuntimeError("unforeseen")
            self.stop.wait(30)

    collector = Broken(settings(), None, Log(tmp_path, writes="rounds.jsonl"), None)
    with pytest.raises(RuntimeError, match="unforeseen"):
        collect_all(collector, [0, 1, 2])
    assert collector.stop.is_set()


def test_another_model_may_not_go_on(copied, notes, offline, envs):
    server, out = copied
    flags = [*command(notes, server.url, out, envs), "--model", "small", "--temperature", 0.1]
    done = run_script("collect.py", *flags, env=offline, check=False)
    assert (done.returncode, done.stderr.count("\n")) == (2, 1)
    assert "a collection with another model, sampling: choose another --out" in done.stderr


BAD = {
    "no flags": ([], "missing: --notes, --old, --new, --out, --url, --model"),
    "no file": (["--notes", "nowhere.md"], "nowhere.md: no such file"),
    "empty notes": (["--notes", os.devnull], f"{os.devnull}: no paragraph looks like an API change"),
    "a range": (["--new", "tidemark>=2.0"], "--new tidemark>=2.0: expected an exact pin, such as numpy==2.0.0"),
    "a flag as pin": (["--old=-r=x==1"], "--old -r=x==1: expected an exact pin"),
    "two libraries": (["--new", "other==2.0"], "start with different libraries: other, tidemark"),
    "no change": (["--new", "tidemark==1.0"], "--old and --new are the same environment"),
    "rounds": (["--rounds", "0"], "argument --rounds: 0 is not above 0"),
    "limit": (["--limit", "-1"], "argument --limit: -1 is not above 0"),
    "top-p": (["--top-p", "1.5"], "argument --top-p: 1.5 is not above 0 and at most 1"),
    "temperature": (["--temperature", "nan"], "argument --temperature: nan is not between 0 and 100"),
    "out": (["--out", "/dev/null"], "/dev/null/rounds.jsonl: cannot be written: Not a directory"),
    "url": (["--url", "localhost:8000/v1"], "--url localhost:8000/v1: expected http:// or https://"),
    "typo": (["--round", "2"], "unrecognized arguments: --round: did you mean --rounds?\n"),
    "an unknown version": (["--new", "tidemark==9.9"], "pip could not install tidemark==9.9: ERROR: "),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_input_is_one_line(case, notes, tmp_path, offline, envs):
    extra, message = BAD[case]
    flags = [] if not extra else [*command(notes, "http://localhost:9/v1", tmp_path / "out", envs), *extra]
    done = run_script("collect.py", *flags, env=offline, check=False)
    assert (done.returncode, done.stderr.count("\n")) == (2, 1), done.stderr
    assert message in done.stderr
    assert not (tmp_path / "out" / "rounds.jsonl").exists()


def test_a_dry_run_needs_notes_alone_also_from_stdin(notes):
    shown = subprocess.run(
        [sys.executable, str(ROOT / "src" / "collect.py"), "--notes", "-", "--dry-run"],
        input=NOTES,
        capture_output=True,
        text=True,
        check=True,
    ).stdout.splitlines()
    assert shown[0] == "kept  line 5: `tidemark.level_at` has been removed. Use `tidemark.level` instead."
    assert shown[4] == "left  line 9: Better words everywhere.  (names no API)"
    assert len(shown) == 7


def test_a_log_of_something_else_is_refused(tmp_path):
    (tmp_path / "rounds.jsonl").write_text('{"job\n{"job": "a"}\n')
    with pytest.raises(InputError, match=r"rounds.jsonl:1: not JSON"):
        Log(tmp_path, writes="rounds.jsonl")
    (tmp_path / "run.json").write_text("[]")
    with pytest.raises(InputError, match=r"run.json: "):
        register_start(tmp_path, {}, {})


def test_text_that_no_file_takes_is_logged(tmp_path):
    row = {"round": "a#1", "job": "a", "role": "update", "cause": "start", "verdict": "format", "problems": ["\ud800"]}
    log = Log(tmp_path, writes="rounds.jsonl")
    log.add(row)
    assert log.next_step("a", 2) == ("error", "- \ud800")
    assert log.next_step("a", 1) is None
    assert Log(tmp_path, writes="rounds.jsonl").jobs == log.jobs


def accepted(job: str, record_id: str) -> dict:
    row = {"round": f"{job}#1", "job": job, "role": "pair", "cause": "start", "verdict": "accepted", "problems": []}
    return {**row, "proposed": {"proposal": f"{job}#1", "evidence": {"id": record_id}}}


def test_two_threads_that_proved_the_same_record_have_it_accepted_once(tmp_path):
    log = Log(tmp_path, writes="rounds.jsonl")
    both = threading.Barrier(2)

    def prove(job: str) -> None:
        assert log.twin("r", job) is None  # neither is logged yet, so neither is warned off
        both.wait(10)
        log.add(accepted(job, "r"))

    threads = [threading.Thread(target=prove, args=(job,)) for job in ("a/1", "b/1")]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    [kept] = log.accepted_pairs()
    [other] = {"a/1", "b/1"} - {kept["job"]}
    assert [row["proposal"] for row in rows(tmp_path / "proposed.jsonl")] == [kept["round"]]
    assert log.next_step(other, 2) == ("error", f"- the same pair as {kept['job']}: write another one")


def test_a_question_about_a_job_makes_none(tmp_path):
    """A key that `next_step` puts in while another thread iterates would end the run with a RuntimeError."""
    log = Log(tmp_path, writes="rounds.jsonl")
    assert log.next_step("a", 1) == ("start", "")
    assert dict(log.jobs) == {}


def test_an_answer_with_half_a_surrogate_pair_is_judged_and_logged(serve, tmp_path):
    """JSON allows half of a surrogate pair, UTF-8 does not: it becomes a question mark."""
    reply = {"choices": [{"message": {"content": "high \ud800"}, "finish_reason": "stop"}]}
    server = serve(lambda number, body: (200, {}, json.dumps(reply).encode(), 0))
    log = Log(tmp_path, writes="rounds.jsonl")
    checked = []

    def check(answer: str, _: str) -> tuple[CheckResult, dict]:
        checked.append(answer)
        return CheckResult("format", ("wrong",)), {}

    asked = [{"role": "user", "content": "hi"}]
    last = Collector(settings(rounds=1), None, log, Endpoint(server.url, "big", tries=1)).converse(
        "a", "update", asked, check
    )
    assert (checked, last["answer"]) == (["high ?"], "high ?")


def test_a_prompt_that_is_too_long_ends_its_job_alone(serve, tmp_path):
    server = serve(lambda number, body: (400, {}, b"maximum context length", 0))
    log = Log(tmp_path, writes="rounds.jsonl")
    collector = Collector(settings(rounds=3), None, log, Endpoint(server.url, "big", tries=1))
    last = collector.converse("a", "update", [{"role": "user", "content": "hi"}], None)
    assert (last["verdict"], last["answer"], len(server.bodies)) == ("refused", "", 1)
    assert last["problems"][0].startswith("the server refused the prompt: ")
    assert "status 400: maximum context length" in last["problems"][0]
    assert Log(tmp_path, writes="rounds.jsonl").next_step("a", 9) is None
    assert rates(log)["update"]["rejected"] == 1


def test_a_content_filter_ends_its_job_alone(serve, tmp_path):
    """The provider refuses this prompt: not a format error of the model, and no reason to ask again."""
    cut = {"message": {"content": "half"}, "finish_reason": "content_filter"}
    server = serve(lambda number, body: (200, {}, {"choices": [cut]}, 0))
    log = Log(tmp_path, writes="rounds.jsonl")
    collector = Collector(settings(rounds=3), None, log, Endpoint(server.url, "big", tries=1))
    last = collector.converse("a", "update", [{"role": "user", "content": "hi"}], None)
    assert (last["verdict"], last["answer"], len(server.bodies)) == ("refused", "", 1)
    assert "finish_reason content_filter: " in last["problems"][0]
    assert Log(tmp_path, writes="rounds.jsonl").next_step("a", 9) is None


def test_only_the_writer_of_a_log_repairs_it(tmp_path):
    path = tmp_path / "rounds.jsonl"
    row = {"round": "a#1", "job": "a", "role": "update", "cause": "start", "verdict": "none", "problems": []}
    whole = json.dumps(row) + "\n"
    path.write_text(whole + '{"job": "b')
    assert Log(tmp_path, writes="feedback.jsonl").jobs == {"a": [row]}
    assert path.read_text() == whole + '{"job": "b'
    assert Log(tmp_path, writes="rounds.jsonl").jobs == {"a": [row]}
    assert path.read_text() == whole


ROUND = {"round": "a/1#1", "job": "a/1", "role": "pair", "cause": "start", "verdict": "accepted", "problems": []}
RECORD = dict.fromkeys(("dependency", "new_version", "description", "update_info", "old_code", "new_code"), "x")
PROPOSED = {"proposal": "a/1#1", "name": "f", "record": RECORD, "evidence": {"id": "r"}}


@pytest.mark.parametrize(
    ("file", "row", "message"),
    [
        ("rounds.jsonl", {}, "round: field required"),
        ("rounds.jsonl", {**ROUND, "job": 3}, "job: input should be a valid string"),
        ("rounds.jsonl", {**ROUND, "problems": [None]}, "problems.0: expected a string"),
        ("rounds.jsonl", {**ROUND, "role": "x"}, "role: input should be 'update' or 'pair'"),
        ("rounds.jsonl", {**ROUND, "proposed": {"proposal": "a"}}, "proposed.name: field required"),
        ("rounds.jsonl", {**ROUND, "proposed": PROPOSED}, "proposed.evidence.update: field required"),
        (
            "rounds.jsonl",
            {**ROUND, "proposed": {**PROPOSED, "record": {}}},
            "proposed.record.dependency: field required",
        ),
        ("feedback.jsonl", {"decision": "reject"}, "proposal: field required"),
        ("feedback.jsonl", {"proposal": "a", "decision": "maybe"}, "decision: input should be 'accept' or 'reject'"),
        ("feedback.jsonl", {"proposal": "a", "decision": "reject", "feedback": 3}, "feedback: expected a string"),
    ],
)
def test_a_broken_line_names_its_field(tmp_path, file, row, message):
    (tmp_path / file).write_text(json.dumps(row) + "\n")
    with pytest.raises(InputError, match=rf"{file}:1: {re.escape(message)}"):
        Log(tmp_path, writes="rounds.jsonl")


@pytest.mark.parametrize("name", ["update", "pair", "repair"])
def test_our_prompts_list_their_placeholders_and_fill(name):
    header, _, body = (FOLDER / f"{name}.md").read_text().partition("-->")
    listed = set(re.findall(r"\{(\w+)\}", header))
    assert listed == set(re.findall(r"\{(\w+)\}", body))
    assert "What it is for: " in header
    filled = messages(name, dict.fromkeys(listed, "{paragraph} and {braces}"))
    assert [message["role"] for message in filled] == [role for role, _ in read_prompt(name)]
    text = "".join(message["content"] for message in filled)
    assert "{paragraph} and {braces}" in text  # values are not filled again
    assert "{library}" not in text and "<!--" not in text
