"""The page in a real browser: no error, nothing requested, filters, keys, addresses, narrow and dark screens."""

from __future__ import annotations

import shutil
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from page_runs import AREA, EXACT, FFT, lines, page_of, rollout, write_data, write_hostile, write_quickstart, write_run

NAMES = ("chromium", "chromium-browser", "google-chrome")  # Debian's, Ubuntu's, Google's
CHROMIUM = next(filter(None, map(shutil.which, NAMES)), None)
pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="no Chromium: apt-get install chromium")
playwright = pytest.importorskip("playwright.sync_api", reason="playwright: pip install -r requirements/dev.txt")


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with playwright.sync_playwright() as driver:
        found = driver.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])  # root needs it, as in CI
        yield found
        found.close()


@pytest.fixture
def show(browser) -> Iterator[Any]:
    """Opens a file, and fails the test at its end if the page had an error or asked for anything else."""
    faults: list[str] = []
    contexts = []

    def open_page(path: Path, address: str = "", **settings: Any) -> Any:
        context = browser.new_context(**settings)
        contexts.append(context)
        page = context.new_page()
        page.on("console", lambda message: faults.append(f"console: {message.type} {message.text}"))
        page.on("pageerror", lambda error: faults.append(f"error: {error}"))
        page.on("dialog", lambda dialog: (faults.append(f"dialog: {dialog.message}"), dialog.dismiss()))
        url = path.as_uri()
        page.on(
            "request", lambda r: None if r.url.split("#")[0] in (url, "data:,") else faults.append(f"request {r.url}")
        )
        page.goto(url + address)
        return page

    yield open_page
    for context in contexts:
        context.close()
    assert not faults


@pytest.fixture(scope="module")
def quickstart(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("browser")
    page_of(folder, write_quickstart(folder))
    return folder / "page.html"


def title(page: Any) -> str:
    return page.inner_text("#detail h3")


def count(page: Any) -> str:
    return page.inner_text("#count")


def test_which_answer_is_a_copy_which_is_best_and_why(show, quickstart):
    """What a reader asks first, with what the page itself names."""
    page = show(quickstart)
    assert count(page) == "16 of 16 samples"
    page.click("button:text-is('copy (5)')")
    assert count(page) == "5 of 16 samples"
    assert title(page) == "grpo: step 1, group 0, completion 1"
    assert "copy" in page.inner_text(".badges")
    page.click("button:text-is('copy (5)')")
    page.select_option("text=order >> select", label="best first")
    assert page.locator("#list .value").first.inner_text() == "+3.00"
    assert title(page) == "grpo: step 1, group 0, completion 2"
    rows = page.locator(".rewards tbody tr").all_inner_texts()
    assert [row.split("\t") for row in rows] == [
        ["format_reward", "+1.00", "one think part, then one answer part"],
        ["es_star", "+2.00", "3.5 x similarity 1.000 - 1.5"],
        ["total", "+3.00", "their weighted sum, which is trained on"],
        ["advantage", "+1.00", "better than its group: made more likely"],
    ]


def test_keys_and_buttons_move_through_what_the_filters_show(show, quickstart):
    page = show(quickstart)
    page.click("[data-tag='no answer']")
    places = [title(page)]
    for key in ("j", "ArrowRight", "k"):
        page.keyboard.press(key)
        places.append(title(page))
    assert places[:2] == ["grpo: step 1, group 0, completion 4", "grpo: step 2, group 0, completion 4"]
    assert places[2] == f"base: {FFT.id}, sample 1"
    assert places[3] == places[1]
    page.click("#previous")
    assert title(page) == places[0]
    assert page.locator("#previous").is_disabled()
    page.fill("#filter-record", "jk")  # keys in a field are text
    assert (page.input_value("#filter-record"), page.inner_text("#detail")) == ("jk", "No sample fits these filters.")


def test_filters(show, quickstart):
    page = show(quickstart)
    page.fill("#filter-step", "2")
    assert count(page) == "4 of 16 samples"
    page.fill("#filter-low", "2.5")
    assert (count(page), title(page)) == ("1 of 16 samples", "grpo: step 2, group 0, completion 2")
    page.fill("#filter-step", "")
    page.select_option("#filter-place", label="base")
    page.fill("#filter-record", AREA.id[:6])
    assert (count(page), title(page)) == ("1 of 16 samples", f"base: {AREA.id}, sample 1")
    page.select_option("#filter-place", label="all")
    page.fill("#filter-low", "")
    page.fill("#filter-high", "-3")
    assert count(page) == "3 of 16 samples"
    page.click("[data-tag='worse than before']")
    assert (count(page), title(page)) == ("2 of 16 samples", f"grpo-test: {AREA.id}, sample 1")


def test_an_address_opens_its_sample(show, quickstart):
    page = show(quickstart)
    page.click("#list button >> nth=6")
    address = page.evaluate("location.hash")
    assert address == "#/grpo/2/0/2"
    assert page.get_attribute("#address", "href") == address
    other = show(quickstart, address)
    assert title(other) == "grpo: step 2, group 0, completion 3"
    assert other.locator("#list [aria-current=true]").get_attribute("data-index") == "6"
    other.click("[data-tag=copy]")
    other.evaluate("location.hash = '#/base/none/7'")  # no such sample: nothing changes
    other.evaluate(f"location.hash = '#/grpo-test/{FFT.id}/0'")
    other.wait_for_function("document.querySelector('#detail h3').textContent.startsWith('grpo-test')")
    assert count(other) == "16 of 16 samples"  # the filters that hid it are gone


def test_think_answer_and_differences_are_apart(show, quickstart):
    page = show(quickstart, "#/grpo/1/0/0")
    text = page.inner_text("#detail .columns")
    assert "Think\nI apply the update.\nAnswer\n<answer>" in text
    assert FFT.update_info in text
    marks = [page.locator(f"pre.diff .{kind}").all_inner_texts() for kind in ("del", "add")]
    copied = "spectrum = np.fft.fft(frame)  # unchanged"
    assert marks[0] == ["- spectrum = np.fft.fft(frame)", f"- {copied}"]
    assert marks[1] == [f"+ {copied}", '+ spectrum = np.fft.fft(frame.astype("f8"))']
    assert page.locator("pre.diff mark").first.inner_text() == "  # unchanged"
    page.click(".group button >> nth=3")
    assert title(page) == "grpo: step 1, group 0, completion 4"
    assert "Answer\nI do not know." in page.inner_text("#detail .columns")


def test_before_and_after_side_by_side(show, quickstart):
    page = show(quickstart)
    page.click(f"#pairs [data-problem='{FFT.id}']")
    assert page.locator("#pairs tr[aria-selected=true]").inner_text().split("\t")[2:] == ["-0.38", "+2.62", "+3.00"]
    assert page.locator("#pair-detail h4").all_inner_texts() == ["base: -3.00", "grpo-test: +3.00"]
    page.click("text=next answer →")
    assert page.locator("#pair-detail h4").all_inner_texts() == ["base: +2.24", "grpo-test: +2.24"]
    page.click("#pair-detail a >> nth=1")
    assert title(page) == f"grpo-test: {FFT.id}, sample 2"


def test_a_think_part_that_is_never_closed(show, tmp_path):
    run = write_run(tmp_path / "run", write_data(tmp_path))
    row = rollout(1, 0, completion=f"I think{EXACT.split('</think>')[1]}")
    (run / "rollouts.jsonl").write_text(lines([row]))
    page_of(tmp_path, run)
    text = show(tmp_path / "page.html").inner_text("#detail .columns")
    assert "Think (never closed)\nI think\nAnswer\n<answer>" in text


def test_hostile_text_runs_nothing(show, tmp_path):
    page_of(tmp_path, *write_hostile(tmp_path))
    page = show(tmp_path / "page.html")
    for _ in range(12):
        page.keyboard.press("j")
    for summary in page.locator("summary").all():
        summary.click()
    page.click("#pairs button >> nth=0")
    assert page.locator("img, iframe, object").count() == 0
    assert page.locator("script").count() == 2
    address = page.get_attribute("#address", "href")
    again = show(tmp_path / "page.html", address)
    assert title(again) == title(page)


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [320, 390, 800, 1400])
def test_no_screen_scrolls_sideways(show, quickstart, width, scheme):
    page = show(quickstart, viewport={"width": width, "height": 800}, color_scheme=scheme)
    for summary in page.locator("summary").all():
        summary.click()
    page.click("#pairs button >> nth=0")
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    wide = "[...document.querySelectorAll('.scroll')].filter(one => one.scrollWidth > one.clientWidth + 1).length"
    assert page.evaluate(wide) == 0


CONTRAST = Path(__file__).with_name("contrast.js").read_text("utf-8")


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_texts_have_contrast_and_controls_have_labels(show, quickstart, scheme):
    """WCAG 2: at least 4.5 to 1."""
    page = show(quickstart, color_scheme=scheme)
    for summary in page.locator("summary").all():
        summary.click()
    page.click("[data-tag=copy]")
    assert page.evaluate(CONTRAST) == []
    unnamed = "[...document.querySelectorAll('input, select')].filter(one => !one.labels.length).length"
    assert page.evaluate(unnamed) == 0
    assert page.locator("[role=img]:not([aria-label])").count() == 0


@pytest.mark.slow
def test_a_long_run_is_quick(show, tmp_path):
    """5,000 steps of 16 samples: processor time, which other work on the machine does not change."""
    data = write_data(tmp_path)
    run = write_run(tmp_path / "run", data, 5_000)
    thought = "I look for each call in the old code, and replace its name. " * 8
    with (run / "rollouts.jsonl").open("w") as file:
        for step in range(1, 5_001):
            rows = [rollout(step, i % 4, group=i // 8) for i in range(16)]
            file.write(lines([row | {"completion": f"{thought}{step}{row['completion']}"} for row in rows]))
    began = time.process_time()
    text = page_of(tmp_path, run)
    assert time.process_time() - began < 20
    assert len(text.encode()) < 5_000_000
    began = time.perf_counter()
    page = show(tmp_path / "page.html")
    page.wait_for_selector("#detail h3")
    assert time.perf_counter() - began < 10  # 0.5 s on two idle cores
