"""The documentation is true: its commands, flags, settings, paths, links and messages exist."""

from __future__ import annotations

import ast
import importlib.util
import json
import os
import re
import shlex
import subprocess
import sys
from functools import cache
from itertools import pairwise
from pathlib import Path

import pytest

from experiments.curves import PANELS

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text("utf-8")
PAGES = [  # what they name must exist; the logs in results/ keep the commands that were run
    "README.md",
    "CONTRIBUTING.md",
    "benchmarks/README.md",
    "configs/README.md",
    "data/README.md",
    "results/README.md",
    *sorted(f"docs/{path.name}" for path in (ROOT / "docs").glob("*.md")),
]
LINKED = [*PAGES, "CHANGELOG.md", *sorted(f"results/{p.name}" for p in (ROOT / "results").glob("[a-z]*.md"))]
FOLDERS = "src|scripts|configs|tests|benchmarks|assets|data|results|docs|requirements"
PATH = re.compile(rf"(?<![\w/.-])(?:{FOLDERS})/[\w./-]*\w")
FORWARDS = {"evaluate": "generate", "quickstart": "grpo"}  # launchers that hand their flags to another program
FLAGS_IN_TEXT = [  # the programs whose flags the pages mention without a command
    *((f"src/{name}.py",) for name in ("grpo", "sft", "generate", "score", "collect", "merge_adapter", "preflight")),
    *((f"src/{name}.py",) for name in ("report", "study")),
    *(("src/check_data.py", verb) for verb in ("rows", "proofs", "gates", "published", "leakage", "composition")),
    ("benchmarks/bench_gpu.py",),
]
OTHERS = ("source", "pip", "uv", "conda", "printf")


def text_of(page: str) -> str:
    return (ROOT / page).read_text("utf-8")


def spans(text: str) -> list[str]:
    """The inline code of a page."""
    prose = re.sub(r"^(`{3,}).*?^\1", "", text, flags=re.S | re.M)
    return [" ".join(span.split()) for span in re.findall(r"(?<!`)`([^`]+)`(?!`)", prose)]


def commands(text: str) -> list[tuple[str, ...]]:
    """The commands of a page's bash blocks and of its inline code; comments and variables taken off."""
    blocks = "\n".join(re.findall(r"```bash\n(.*?)```", text, flags=re.S)).replace("\\\n", " ")
    inline = [span for span in spans(text) if re.match(r"([A-Z_]+=\S+ )*(python|bash|sbatch) (src|scripts)/", span)]
    found = []
    for line in [*blocks.splitlines(), *inline]:
        for part in line.split(" && "):
            words = shlex.split(part, comments=True)
            while words and re.fullmatch(r"[A-Z_]+=.*", words[0]):  # DRY_RUN=1 …
                words = words[1:]
            if words:
                found.append(tuple(words))
    return found


@cache
def help_of(*command: str) -> str:
    if command[-1] != "--help-all":
        command = (*command, "--help")
    env = {**os.environ, "PYTHONPATH": str(ROOT / "src")}  # which the commands of benchmarks/ set
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True, env=env).stdout


@cache
def help_of_program(script: str, verb: str | None = None) -> str:
    """What a script of src/ or scripts/ and, for a launcher, its program say about their flags."""
    path = Path(script)
    if path.suffix == ".sh":
        program = ROOT / "src" / f"{FORWARDS.get(path.stem, path.stem)}.py"
        return help_of("bash", script) + (help_of_program(f"src/{program.name}") if program.exists() else "")
    if path.stem in ("grpo", "sft"):
        return help_of(sys.executable, script) + help_of(sys.executable, script, "--help-all")
    return help_of(sys.executable, script, *([verb] if verb else []))


def flags_of(words: tuple[str, ...]) -> list[str]:
    return [word.partition("=")[0] for word in words if re.match(r"--[a-z]", word)]


def is_known(flag: str, text: str) -> bool:
    return re.search(rf"(?<![\w-]){re.escape(flag)}(?![\w-])", text) is not None


def check_overrides(name: str, overrides: list[str]) -> None:
    from verl_training import checks, config

    checks.check(config.compose(name, overrides))


@cache
def check_command(words: tuple[str, ...]) -> None:
    """Fail if a command names a program, a flag or a setting that does not exist."""
    if words[0] in OTHERS:
        return
    if words[0] == "sbatch":  # what Slurm's file does with flags is what the script of its name does
        assert (ROOT / words[1]).is_file(), words
        words = ("bash", f"scripts/{Path(words[1]).stem}.sh", *words[2:])
    assert re.fullmatch(r"bash|python(3\.1\d)?", words[0]), words
    if words[1] in ("-m", "-c"):
        assert words[1] == "-c" or importlib.util.find_spec(words[2]), words
        return
    script = words[1]
    assert (ROOT / script).is_file(), script
    if script == "scripts/test.sh":  # other flags are pytest's
        return
    verb = words[2] if Path(script).stem == "check_data" and len(words) > 2 else None
    flags = [flag for flag in flags_of(words) if flag != "--help-all"]
    unknown = [flag for flag in flags if not is_known(flag, help_of_program(script, verb))]
    assert not unknown, f"{' '.join(words)}: {unknown}"
    if Path(script).stem in ("dapo", "data_process"):
        default = "quickstart/dapo" if "--cpu" in words else "dapo"
        names = dict(pairwise(words))
        check_overrides(names.get("--config-name", default), [word for word in words[2:] if "=" in word])


def slug(heading: str) -> str:
    """The anchor that GitHub gives a heading."""
    return re.sub(r"[^\w\- ]", "", heading.strip().lower()).replace(" ", "-")


@pytest.mark.parametrize("page", PAGES)
def test_commands_exist_and_take_their_flags(page):
    for words in commands(text_of(page)):
        check_command(words)


def test_new_names_in_the_changelog_exist():
    section = text_of("CHANGELOG.md").split("### New names")[1].split("\n##")[0]
    rows = [line.split("|")[2] for line in section.splitlines() if line.startswith("| `")]
    assert len(rows) >= 10
    for words in commands("\n".join(rows)):
        check_command(words)
    for path in PATH.findall("\n".join(rows)):
        assert (ROOT / path).exists(), path


@pytest.mark.parametrize("page", PAGES)
def test_flags_and_settings_in_the_text_exist(page):
    for span in spans(text_of(page)):
        if span.startswith("--") and not span.startswith(("--config-name", "--all", "--cpu")):
            known = "".join(help_of_program(*one) for one in FLAGS_IN_TEXT)
            unknown = [flag for flag in flags_of(tuple(span.split())) if not is_known(flag, known + "--help-all")]
            assert not unknown, f"{span}: {unknown}"
        elif re.match(r"\"?[a-z_]+(\.[a-z_]+)+=", span):
            check_overrides("dapo", shlex.split(span))


@pytest.mark.parametrize("page", PAGES)
def test_paths_exist(page):
    missing = [path for path in sorted(set(PATH.findall(text_of(page)))) if not (ROOT / path).exists()]
    assert not missing


@pytest.mark.parametrize("page", LINKED)
def test_links_lead_somewhere(page):
    text = text_of(page)
    for link in [*re.findall(r"\]\(([^)\s]+)\)", text), *re.findall(r'src="([^"]+)"', text)]:
        if link.startswith("http"):
            continue
        target, _, anchor = link.partition("#")
        path = (ROOT / page).parent / target if target else ROOT / page
        assert path.exists(), link
        if anchor:
            headings = re.findall(r"^#+ (.*)$", path.read_text("utf-8"), flags=re.M)
            assert anchor in map(slug, headings), link


def test_the_readme_is_short_and_names_every_folder():
    assert len(README.encode()) <= 10_000
    tree = README.split("## Folders")[1].split("```")[1]
    ignored = {line.strip("/") for line in text_of(".gitignore").splitlines()}
    top = {path.name for path in ROOT.iterdir() if path.is_dir() and not path.name.startswith(".")} - ignored
    inside = {path.parent.name for path in (ROOT / "src").rglob("__init__.py")}
    assert not [name for name in sorted(top | inside) if f"{name}/" not in tree]


def section(title: str) -> str:
    """A section of the README."""
    return README.split(f"\n## {title}\n")[1].split("\n## ")[0]


def test_the_quickstart_s_numbers_are_those_of_its_log():
    numbers = set(re.findall(r"-?\d\.\d\d", section("Quickstart")))
    assert len(numbers) > 10
    assert not [number for number in sorted(numbers) if number not in text_of("results/quickstart.md")]


def test_the_study_s_numbers_are_those_of_its_tables():
    rows = [line for line in section("Does it learn to follow the note?").splitlines() if line.startswith("| ")]
    numbers = {number for row in rows[1:] for number in re.findall(r"-?\d+\.\d+", row)}
    known = re.findall(r"-?\d+\.\d+", text_of("results/study/small/study.md") + text_of("results/migration.md"))
    assert len(numbers) > 10
    assert sorted(numbers - set(known)) == []


def test_the_curves_of_the_study_have_every_panel():
    files = sorted((ROOT / "results" / "study").glob("*/*/train/curves.jsonl"))
    assert files
    for file in files:
        rows = [json.loads(line) for line in file.read_text().splitlines()]
        assert set().union(*rows) == {"step", *PANELS}, file


def test_results_name_no_path_of_a_machine():
    files = [path for path in (ROOT / "results").rglob("*") if path.suffix in (".json", ".jsonl", ".md")]
    assert not [path for path in files if re.search(r"[\"\s]/(work|root|home|tmp)/", path.read_text())]


def test_the_example_is_one_of_our_records_and_its_reward_is_the_one_it_gets():
    from records import load_records
    from rewards import score

    row = json.loads(re.search(r"```json\n(.*?)```", README, flags=re.S)[1])
    [record] = [record for record in load_records(ROOT / "data" / "train.jsonl") if record.to_row() == row]
    assert f"--record {record.id} " in README
    evidence = next(line for line in (ROOT / "data" / "evidence.jsonl").read_text().splitlines() if record.id in line)
    evidence = json.loads(evidence)
    assert f"`{evidence['check']}`" in README
    assert (evidence["old_env"], evidence["new_env"]) == (["numpy==1.26.4"], ["numpy==2.0.0"])
    [old] = [words[1] for words in commands(text_of("docs/grpo.md")) if words[0] == "printf"]
    assert old.replace("\\n", "\n") == record.old_code + "\n"

    completion = re.search(r"````text\n(.*?)````", README, flags=re.S)[1]
    found = score(completion, record.new_code)
    assert found.code == record.old_code
    told = [float(number) for number in re.findall(r"\*\*\+([\d.]+)\*\*", README.split("## The reward, worked")[1])]
    assert told == [found.format, round(found.es_star + 1e-9, 2), round(found.format + found.es_star + 1e-9, 2)]


def test_the_record_of_the_contributor_s_guide_has_its_id():
    from records import check_rows

    guide = text_of("CONTRIBUTING.md")
    evidence = json.loads(re.search(r"```json\n(.*?)```", guide, flags=re.S)[1])
    row = {
        "dependency": "NumPy",
        "new_version": "==2.0.0",
        "description": "Tests which readings are known.",
        "update_info": "`np.in1d` is deprecated; use `np.isin` instead.",
        "old_code": "import numpy as np\nknown = np.in1d([1, 2, 3], [2, 3])",
        "new_code": "import numpy as np\nknown = np.isin([1, 2, 3], [2, 3])",
    }
    [record] = check_rows([(1, row)], "guide").records
    assert record.id == evidence["id"]


def program_texts() -> str:
    """Every string of src/, and the scripts; with … for what is filled in when they run."""
    found = []
    for path in (ROOT / "src").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            if isinstance(node, ast.JoinedStr):
                found.append("".join(p.value if isinstance(p, ast.Constant) else "…" for p in node.values))
            elif isinstance(node, ast.Constant) and isinstance(node.value, str):
                found.append(node.value)
    scripts = "\n".join(path.read_text("utf-8") for path in (ROOT / "scripts").rglob("*.sh"))
    return "\n".join([*found, re.sub(r"\$\{[^}]*\}|\$\w+", "…", scripts)])


def test_messages_of_the_troubleshooting_page_are_printed_by_the_programs():
    printed = program_texts()
    first_cells = [line.split(" | ")[0] for line in text_of("docs/troubleshooting.md").splitlines()]
    messages = [span for cell in first_cells if cell.startswith("| `") for span in spans(cell)]
    assert len(messages) > 15
    lost = [m for m in messages if not re.search(".*".join(map(re.escape, m.split("…"))), printed)]
    assert not lost


def test_the_modules_of_the_architecture_figure_exist():
    spec = importlib.util.spec_from_file_location("architecture", ROOT / "assets" / "architecture.py")
    figure = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(figure)
    for route in (figure.RECORD + figure.GRPO, figure.RECORD + figure.DAPO):
        assert len(route) == len(dict(route)) == 7  # each entered once
    for module, _ in figure.RECORD + figure.GRPO + figure.DAPO + figure.ANSWER:
        assert (ROOT / "src" / module).is_file(), module
