"""src/report.py: what is in a page, that text of any content stays text, and which samples are kept."""

from __future__ import annotations

import json
import os
import re
from html.parser import HTMLParser
from pathlib import Path

import pytest
from conftest import ROOT
from edges.checker import run_main
from page_runs import (
    AREA,
    BEFORE,
    CONFIG,
    FFT,
    NO_PARSE,
    data_of,
    lines,
    page_of,
    rollout,
    write_data,
    write_evaluation,
    write_hostile,
    write_quickstart,
    write_run,
)

import report
from run_page import curves, page, reference, thinning
from run_page.find import find
from run_page.reference import CONFIGS


@pytest.fixture(scope="module")
def quickstart(tmp_path_factory) -> str:
    folder = tmp_path_factory.mktemp("page")
    return page_of(folder, write_quickstart(folder))


def sample(data: dict, place: str, *path: str) -> dict:
    [number] = [i for i, one in enumerate(data["places"]) if one["name"] == place]
    [found] = [one for one in data["samples"] if (one["place"], one["path"]) == (number, [*path])]
    return found


def text_of(html: str) -> str:
    """The text of a page outside of its scripts and styles, on one line."""

    class Reader(HTMLParser):
        texts: list[str] = []  # noqa: RUF012

        def handle_data(self, data: str) -> None:
            if self.lasttag not in ("script", "style"):
                self.texts.append(data)

    reader = Reader()
    reader.texts = []
    reader.feed(html)
    return " ".join(" ".join(reader.texts).split())


def test_the_rewards_of_a_run_with_their_reasons(quickstart):
    data = data_of(quickstart)
    copy = sample(data, "grpo", "1", "0", "0")
    form = ["format_reward", 1.0, "one think part, then one answer part"]
    assert copy["parts"] == [form, ["es_star", 1.2417, "3.5 x similarity 0.783 - 1.5"]]
    assert (copy["value"], copy["advantage"], copy["tags"]) == (2.2417, 0.5, ["copy"])
    assert sample(data, "grpo", "1", "0", "1")["tags"] == ["equals the target", "best of its group"]
    broken = sample(data, "grpo", "2", "0", "2")
    assert (broken["parts"][1], broken["tags"]) == (["es_star", -2.0, "the code does not parse"], ["does not parse"])
    silent = sample(data, "grpo", "2", "0", "3")
    assert silent["parts"] == [["format_reward", -1.0, "no </think>"], ["es_star", -2.0, "no <answer>"]]
    assert (silent["code"], silent["tags"]) == (None, ["no answer"])


def test_a_reward_for_another_right_target_is_not_called_outdated(tmp_path):
    """With the key `alternatives` the copy, which is an alternative here, earned the maximum."""
    data = write_data(tmp_path)
    line = {"id": FFT.id, "alternatives": [FFT.old_code]}
    (data.parent / "evidence.jsonl").write_text(lines([line]))
    run = write_run(tmp_path / "run", data, 1, {**CONFIG, "data": str(data), "alternatives": True})
    rows = [rollout(1, 0, rewards={"format_reward": 1.0, "es_star": 2.0})]
    (run / "rollouts.jsonl").write_text(lines(rows))
    shown = sample(data_of(page_of(tmp_path, run)), "run", "1", "0", "0")
    assert shown["parts"][1] == ["es_star", 2.0, "3.5 x similarity 1.000 - 1.5"]
    (data.parent / "evidence.jsonl").unlink()  # then today's value is shown beside the logged one
    shown = sample(data_of(page_of(tmp_path, run)), "run", "1", "0", "0")
    assert shown["parts"][1][2].startswith("logged; today's src/rewards.py gives +1.242")


def test_the_question_is_that_of_the_record(quickstart):
    data = data_of(quickstart)
    task = data["tasks"][sample(data, "grpo", "1", "0", "0")["task"]]
    shown = {"id": FFT.id, "title": "NumPy 2.0.0", "note": FFT.update_info, "old": FFT.old_code, "target": FFT.new_code}
    assert task == shown


def test_the_code_is_stored_as_a_part_of_its_text(quickstart):
    one = sample(data_of(quickstart), "grpo", "1", "0", "1")
    begin, end = one["code"]
    assert one["text"][begin:end] == FFT.new_code


def test_an_evaluation_is_compared_with_the_one_before_it(quickstart):
    """FFT before: -3 and 2.24, mean -0.38; AREA before: 2.66 and -3, mean -0.17."""
    data = data_of(quickstart)
    assert data["pairs"] == [
        {
            "places": ["base", "grpo-test"],
            "problems": [{"id": FFT.id, "means": [-0.3792, 2.6208]}, {"id": AREA.id, "means": [-0.1707, -3.0]}],
        }
    ]
    assert sample(data, "grpo-test", FFT.id, "1")["tags"] == ["copy", "better than before"]
    assert sample(data, "grpo-test", AREA.id, "1")["tags"] == ["no answer", "worse than before"]
    assert not [tag for n in "01" for tag in sample(data, "base", FFT.id, n)["tags"] if "before" in tag]
    assert "After base, grpo-test changed the held-out reward by 0.09: 2 records do not show that" in text_of(
        quickstart
    )


def test_the_header_says_what_ran(quickstart):
    text = text_of(quickstart)
    assert "started 2026-01-02T03:04:05+00:00 commit 0123456789ab data " in text
    assert "hardware 2 x H100, 2 cores of A processor, 25.3 GB seed 42 time 0:00:04 in 2 logged steps" in text
    assert "versions torch 2.13.0 command python src/grpo.py" in text
    settings = len(reference.compare(CONFIG, "grpo.yaml"))
    # learning_rate and reward are the paper's; num_generations 4 and max_steps 2 and the model are not; others unknown
    assert f"GRPO run, 3 of {settings} settings differ from the paper's (configs/grpo.yaml)" in text
    assert "num_generations ≠ 4 8 paper §4.1" in text
    assert "learning_rate 5e-05 5e-05 paper §4.1" in text


@pytest.mark.parametrize("name", ["grpo.yaml", "sft.yaml", "dapo.yaml"])
def test_a_run_with_the_papers_settings_has_no_differences(name):
    import yaml

    config = yaml.safe_load((CONFIGS / name).read_text())
    rows = reference.compare(config, name)
    assert len(rows) > 20
    assert not [row for row in rows if row.differs or row.here == reference.UNKNOWN]
    sources = {row.setting.key.rpartition(".")[2]: row.setting.source for row in rows}
    assert sources["lora_r"].startswith("paper §4.1")


def test_curves_have_a_line_for_each_run(tmp_path):
    data = write_data(tmp_path)
    runs = [write_run(tmp_path / name, data, steps) for name, steps in (("one", 3), ("two", 9))]
    found = {title: lines for title, _, lines in curves.lines_of(page.read(find(runs))[0])}
    assert list(found["Reward"]) == [0, 1]
    assert found["Reward"][0] == ([1, 2, 3], pytest.approx([0.1, 0.2, 0.3]))
    assert found["Copies of the old code"][1] == (list(range(1, 10)), [0.25] * 9)  # one of four answers
    text = page_of(tmp_path, *runs)
    assert text.count("var(--run-1)") and text.count("var(--run-2)")
    assert "Reward. one: first 0.1, last 0.3; two: first 0.1, last 0.9" in text


def test_both_trainers_fill_the_same_panels(tmp_path):
    data = write_data(tmp_path)
    run = write_run(tmp_path / "dapo", data, config={"actor_rollout_ref": {"rollout": {"n": 4}}, "recode": {}})
    row = {"step": 1, "reward/before_filter/score": 2.0, "response_length/mean": 9.0, "actor/pg_clipfrac": 0.1}
    (run / "metrics.jsonl").write_text(lines([row | {"groups/zero_variance_share": 0.5, "actor/ppo_kl": 0.01}]))
    parts = {"score": 3.0, "format": 1.0, "correctness": 2.0, "syntax": 1.0, "em": 1.0, "es": 1.0}
    kept = rollout(1, 1, rewards=parts)
    (run / "rollouts.jsonl").write_text(lines([kept, kept | {"advantage": None, "group": 1}]))
    text = page_of(tmp_path, run)
    titles = re.findall(r"<figcaption><b>(.*?)</b>", text)
    wanted = ["Reward", "Completion length", "Groups of equal rewards", "Copies of the old code", "KL", "Clip fraction"]
    assert titles == wanted
    found = data_of(text)["samples"]
    assert [(one["value"], one["trained"], one["advantage"]) for one in found] == [(3.0, True, 1.0), (3.0, False, None)]
    assert found[0]["parts"][1:3] == [
        ["format", 1.0, "one think part, then one answer part"],
        ["correctness", 2.0, "the rewards besides the format: equals the target"],
    ]
    assert "DAPO run, " in text_of(text)


def test_weights_and_other_peoples_rewards(tmp_path):
    """2 x 1 + 0.5 x 4 = 4; a value that is not today's says so."""
    data = write_data(tmp_path)
    run = write_run(tmp_path / "run", data, config=CONFIG | {"reward_weights": [2.0, 0.5]})
    mine = rollout(1, 1, rewards={"format_reward": 1.0, "mine": 4.0}, reason="four words")
    old = rollout(1, 1, rewards={"format_reward": -1.0, "mine": None})
    (run / "rollouts.jsonl").write_text(lines([mine, old]))
    first, second = data_of(page_of(tmp_path, run))["samples"]
    assert (first["value"], first["parts"][1]) == (4.0, ["mine", 4.0, "four words"])
    why = "logged; today's src/rewards.py gives +1.000: one think part, then one answer part"
    assert (second["value"], second["parts"][0]) == (-2.0, ["format_reward", -1.0, why])


def test_a_run_whose_data_is_gone_is_shown_without_old_code(tmp_path):
    data = write_data(tmp_path)
    run = write_run(tmp_path / "run", data)
    data.unlink()
    text = page_of(tmp_path, run)
    task = {"id": FFT.id, "title": "", "note": "", "old": "", "target": FFT.new_code}
    assert data_of(text)["tasks"] == [task]
    assert "cannot be read here, so that notes, old code and copies are not known" in text_of(text)
    assert "Copies of the old code" not in text


def test_samples_that_were_drawn_again_are_not_shown(tmp_path):
    data = write_data(tmp_path)
    folder = write_evaluation(tmp_path / "base", data, BEFORE)
    with (folder / "samples.jsonl").open("a") as file:
        file.write("\n")
    text = page_of(tmp_path, folder)
    assert data_of(text)["samples"] == []
    assert "has changed since it was scored: its answers are not shown" in text_of(text)


# --- what a model wrote stays text -----------------------------------------------------------------------------------

RAW = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u2028\u2029\u202e\ud800-\udfff]")


@pytest.fixture(scope="module")
def hostile(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("hostile")
    page_of(folder, *write_hostile(folder))
    return folder / "page.html"


def elements(html: str) -> dict[str, int]:
    """Tag -> how many of it a page has."""
    found: dict[str, int] = {}

    class Reader(HTMLParser):
        def handle_starttag(self, tag: str, attributes: object) -> None:
            found[tag] = found.get(tag, 0) + 1

    Reader().feed(html)
    return found


def test_text_of_any_content_adds_no_markup(hostile):
    text = hostile.read_text("utf-8")
    found = elements(text)
    assert (found["script"], found["style"], found.get("img", 0)) == (2, 1 + found["svg"], 0)
    assert not RAW.search(text)
    data = text.split('id="data">')[1].split("</script>")[0]
    assert not re.search("[<>&]", data)
    body = text.split("</style>", 1)[1].split('<script type="application/json"')[0]
    assert "&lt;script&gt;alert(1)" in body
    assert "&lt;!-- {{ 7 * 7 }}" in body
    assert "<!--" not in body


def test_text_of_any_content_is_shown_as_it_is(hostile):
    samples = data_of(hostile.read_text("utf-8"))["samples"]
    shown = "</script><script>alert(1)</script><img src=x onerror=alert(2)><!-- {{ 7 * 7 }} \"'& "
    shown += "\\x00\\x1b[31m\\u202e\\u2028\\x7f\\ud83d"
    assert samples[0]["text"].startswith(shown + "</think>")
    assert samples[0]["parts"][0] == [shown, 1.0, shown]
    assert samples[0]["parts"][1][1] is None


def test_the_script_builds_no_markup_from_text():
    script = "".join((ROOT / "src" / "run_page" / name).read_text() for name in page.SCRIPTS)
    assert not re.search(r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|eval\(|Function\(|https?:", script)


# --- which samples are kept ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("sizes", "room", "expected"),
    [
        ([10] * 10, 100, 1),
        ([10] * 10, 99, 2),  # 0 2 4 6 8 9: 60
        ([10] * 10, 59, 3),  # 0 3 6 9: 40
        ([10] * 10, 39, 5),  # 0 5 9; with 4: 0 4 8 9
        ([10] * 10, 5, 10),  # the first and the last are always there
        ([], 5, 1),
    ],
)
def test_the_stride(sizes, room, expected):
    assert thinning.stride(sizes, room) == expected


def test_the_sources_share_the_room():
    assert thinning.kept("abcdefgh", 3) == ["a", "d", "g", "h"]
    # 100 for two: the small one needs 20 of its 50, so 80 are left for the other: every 3rd of 20 is 7, and the last
    assert thinning.strides([[10] * 20, [10] * 2], 100) == [3, 1]


def test_a_long_run_keeps_whole_steps_and_says_which(tmp_path, monkeypatch):
    data = write_data(tmp_path)
    run = write_run(tmp_path / "run", data, 100)
    monkeypatch.setattr(thinning.strides, "__defaults__", (40_000,))
    text = page_of(tmp_path, run)
    found = data_of(text)["samples"]
    steps = sorted({one["step"] for one in found})
    assert len(found) == 4 * len(steps)
    every = steps[1] - steps[0]
    assert steps == sorted({*range(1, 101, every), 100})
    which = f"one step in {every} (of 100), from the first on, and the last step, whole"
    words = f"run: {len(found)} of 400 samples: {which}"
    assert words in text_of(text)
    assert len(json.dumps(found)) < 40_000


def test_a_very_long_answer_is_cut(tmp_path):
    run = write_run(tmp_path / "run", write_data(tmp_path))
    (run / "rollouts.jsonl").write_text(lines([rollout(1, 0, completion="x" * 30_000)]))
    [one] = data_of(page_of(tmp_path, run))["samples"]
    assert one["text"] == "x" * 20_000 + "\n[… 10,000 more characters]"


# --- input that cannot be used ---------------------------------------------------------------------------------------


def refused(*words: object) -> str:
    ended = run_main(report.main, "report", *words)
    assert (ended.status, ended.stdout) == (2, "")
    return ended.stderr


@pytest.mark.parametrize(
    ("file", "row", "message"),
    [
        ("rollouts.jsonl", rollout(1, 0) | {"step": "1"}, ":2: step: input should be a valid integer"),
        (
            "rollouts.jsonl",
            rollout(1, 0, rewards={"es_star": "2"}),
            ":2: rewards.es_star: input should be a valid number",
        ),
        ("rollouts.jsonl", {"step": 1}, ":2: record_id: field required"),
        ("rollouts.jsonl", [], ":2: not a JSON object"),
        ("metrics.jsonl", [], ":2: not a JSON object"),
    ],
)
def test_a_row_that_cannot_be_used_is_one_line(tmp_path, file, row, message):
    run = write_run(tmp_path / "run", write_data(tmp_path))
    good = (run / file).read_text().splitlines()[0]
    (run / file).write_text(f"{good}\n{json.dumps(row)}\n{good}\n")
    assert refused(run, "--out", tmp_path / "page.html") == f"report: {run / file}{message}\n"
    assert not (tmp_path / "page.html").exists()


def test_a_verdict_that_cannot_be_used_is_one_line(tmp_path):
    folder = write_evaluation(tmp_path / "base", write_data(tmp_path), BEFORE)
    (folder / "verdicts.jsonl").write_text(lines([{"task_id": FFT.id, "sample_id": 0, "passed": "yes"}]))
    message = "verdicts.jsonl:1: passed: input should be a valid boolean"
    assert refused(folder, "--out", tmp_path / "page.html") == f"report: {folder / message}\n"
    (folder / "verdicts.jsonl").write_text(lines([{"task_id": "none", "sample_id": 0}]))
    message = f"verdicts.jsonl: task_id: none is not in {folder / 'results.json'}"
    assert refused(folder, "--out", tmp_path / "page.html") == f"report: {folder / message}\n"


def test_a_folder_without_a_run_is_one_line(tmp_path):
    (tmp_path / "empty").mkdir()
    nothing = "no run (metrics.jsonl or rollouts.jsonl) and no evaluation (results.json) in this folder"
    assert refused(tmp_path / "empty") == f"report: {tmp_path / 'empty'}: {nothing}\n"
    assert refused(tmp_path / "none") == f"report: {tmp_path / 'none'}: no such folder\n"
    assert refused(tmp_path, "--out", tmp_path) == f"report: {tmp_path}: is a folder; expected a file to write\n"


def test_a_curve_of_checkpoints_is_a_panel(tmp_path):
    run = write_run(tmp_path / "run", write_data(tmp_path))
    (run / "curve").mkdir()
    rows = [
        {"step": s, "scores": {"pass@1": {"mean": m, "low": m - 0.1, "high": m + 0.1}}} for s, m in ((0, 0.5), (9, 0.6))
    ]
    curve = {"folder": "runs/x", "steps": rows, "paper": {"A 32B model": 75.7}}
    (run / "curve" / "curve.json").write_text(json.dumps(curve))
    text = page_of(tmp_path, run)
    assert "Checkpoints on CodeUpdateArena. first 50.0, last 60.0 percent" in text
    assert "with 95 % intervals; the paper&#39;s untrained: A 32B model 75.7" in text
    (run / "curve" / "curve.json").write_text(json.dumps(curve | {"steps": []}))
    assert "curve.json: steps: list should have at least 1 item" in refused(run, "--out", tmp_path / "page.html")


def test_a_broken_answer_has_no_difference_from_the_target(quickstart):
    assert NO_PARSE in [one["text"] for one in data_of(quickstart)["samples"]]


# --- results by execution, names -------------------------------------------------------------------------------------


def write_scores(folder: Path, passed: dict[str, int]) -> Path:
    """What score.py leaves of CodeUpdateArena with two samples a problem; the samples are elsewhere."""
    mean = sum(passed.values()) / (2 * len(passed))
    tasks = {identity: {"n": 2, "passed": n, "upassed": 0} for identity, n in passed.items()}
    result = {"benchmark": "arena", "problems": len(tasks), "samples_per_problem": 2, "tasks": tasks, "config": {}}
    result |= {
        "scores": {"pass@1": {"mean": mean, "low": 0.25, "high": 0.75}},
        "data": {"arena.jsonl": {"sha256": "d"}},
    }
    result |= {"samples": {"sha256": "a", "made": {"benchmark": "arena", "model": "a model"}}}
    verdicts = [
        {"task_id": i, "sample_id": k, "passed": k < n, "status": "pass" if k < n else "assertion"}
        for i, n in passed.items()
        for k in range(2)
    ]
    folder.mkdir(parents=True)
    (folder / "results.json").write_text(json.dumps(result))
    (folder / "verdicts.jsonl").write_text(lines(verdicts))
    return folder


def test_pass_at_k_stands_above_the_papers(tmp_path):
    """Before 0, 1, 2 of 2 pass; after 2, 1, 1: shares change by +1, 0, -0.5, mean 0.167."""
    before = write_scores(tmp_path / "before", {"a": 0, "b": 1, "c": 2})
    after = write_scores(tmp_path / "after", {"a": 2, "b": 1, "c": 1})
    page = page_of(tmp_path, before, after)
    text = text_of(page)
    assert "evaluation Pass@1 before 50.0 (25.0 to 75.0) after 66.7 (25.0 to 75.0) paper: Qwen2.5-Coder-32B" in text
    assert "paper: Qwen2.5-Coder-7B-Instruct, GRPO 74.6" in text
    assert re.search(r"after after before: Pass@1 changed by 16\.7 \(.*?\); problems better: 1, worse: 1\.", text)
    assert "Only 3 problems: too few for a standard error or an interval to hold." in text
    assert "the answers are not here: samples.jsonl" in text
    assert data_of(page)["pairs"][0]["problems"][0] == {"id": "a", "means": [0.0, 1.0]}


@pytest.mark.parametrize(
    ("folders", "names"),
    [
        (["x/grpo"], ["grpo"]),
        (["x/grpo", "x/dapo"], ["grpo", "dapo"]),
        (["x/sft", "x/heldout/sft"], ["sft", "heldout/sft"]),
        (["one/very/long/path/grpo", "another/path/dapo"], ["grpo", "dapo"]),
        (["a/b/grpo", "c/b/grpo"], ["a/b/grpo", "c/b/grpo"]),
    ],
)
def test_places_have_short_names(tmp_path, folders, names):
    for folder in folders:
        (tmp_path / folder).mkdir(parents=True)
        (tmp_path / folder / "metrics.jsonl").write_text("")
    assert [place.name for place in find([tmp_path / folder for folder in folders])] == names


def test_a_folder_is_searched_and_nothing_is_shown_twice(tmp_path):
    for name in ("b", "a", "a/checkpoint-2", "a/.hidden"):
        (tmp_path / name).mkdir(parents=True, exist_ok=True)
        (tmp_path / name / "metrics.jsonl").write_text("")
    os.utime(tmp_path / "a" / "metrics.jsonl", (1, 1))
    assert [place.name for place in find([tmp_path, tmp_path / "b"])] == ["a", "b"]
