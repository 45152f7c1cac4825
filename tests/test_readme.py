"""The README is true: its paths exist, its commands exist and take the flags it shows."""

from __future__ import annotations

import json
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text("utf-8")
DOCUMENTS = [
    "README.md",
    "data/README.md",
    "results/README.md",
    "results/benchmarks.md",
    "results/collect.md",
    "results/dapo.md",
    "results/arena.md",
    "results/humaneval.md",
    "results/records.md",
    "results/migration.md",
    "results/models.md",
]


def commands() -> list[list[str]]:
    """Every command of the README's bash blocks, comments off, continued lines joined."""
    found = []
    for block in re.findall(r"```bash\n(.*?)```", README, flags=re.S):
        for line in block.replace("\\\n", " ").splitlines():
            words = shlex.split(line, comments=True)
            while words and re.fullmatch(r"[A-Z_]+=.*", words[0]):  # DRY_RUN=1 …
                words = words[1:]
            if words:
                found.append(words)
    return found


def test_paths_exist():
    paths = set(re.findall(r"\b(?:src|scripts|configs|tests|benchmarks|assets|data|results)/[\w./-]*\w", README))
    missing = [path for path in sorted(paths) if not (ROOT / path).exists()]
    assert not missing
    tree = README.split("## Files")[1].split("```")[1]
    for name in re.findall(r"[\w-]+\.(?:py|sh|yaml|jsonl|txt)\b", tree):
        assert list(ROOT.glob(f"**/{name}")), name


@pytest.mark.parametrize("document", DOCUMENTS)
def test_links_lead_somewhere(document):
    path = ROOT / document
    for link in re.findall(r"\]\(([^)#]+)\)", path.read_text("utf-8")):
        if not link.startswith("http"):
            assert (path.parent / link).exists(), link


def test_every_folder_and_program_is_in_the_tree():
    tree = README.split("## Files")[1].split("```")[1]
    for path in (ROOT / "src").glob("*.py"):
        assert path.name in tree, path.name
    for path in (ROOT / "src").rglob("__init__.py"):
        assert f"{path.parent.name}/" in tree, path.parent


@pytest.mark.parametrize("command", commands(), ids=" ".join)
def test_commands_exist_and_take_their_flags(command):
    if command[0] == "printf":
        return
    assert command[0] in ("bash", "python")
    script = ROOT / command[1]
    assert script.is_file()
    flags = {word for word in command[2:] if word.startswith("--")}
    if script.suffix == ".sh" and script.name == "test.sh":
        assert flags <= {"--all"}
        return
    target = script if script.suffix == ".py" else ROOT / "src" / f"{script.stem}.py"
    if target.name in ("grpo.py", "sft.py"):
        import grpo
        import sft

        parse = {"grpo.py": grpo, "sft.py": sft}[target.name].parse_arguments
        parse(["--config", f"configs/{target.stem}.yaml", "--use_cpu", "true", *command[2:]])
    else:
        helps = [["bash", script, "--help"]] if script.suffix == ".sh" else []
        helps += [[sys.executable, target, "--help"]] if target.exists() else []
        text = "".join(subprocess.run(h, capture_output=True, text=True, check=True).stdout for h in helps)
        assert all(flag in text for flag in flags)
    if target.name in ("dapo.py", "data_process.py"):
        from verl_training import checks as dapo_checks
        from verl_training import config as verl_config

        names = [word for word, before in zip(command[3:], command[2:], strict=False) if before == "--config-name"]
        overrides = [word for word in command[2:] if "=" in word]
        dapo_checks.check(verl_config.compose(names[0] if names else "dapo", overrides))


def test_the_example_is_one_of_our_records_and_its_reward_is_the_one_it_gets():
    from records import load_records
    from rewards import score

    row = json.loads(re.search(r"```json\n(.*?)```", README, flags=re.S)[1])
    [record] = [record for record in load_records(ROOT / "data" / "train.jsonl") if record.to_row() == row]
    assert f"--record {record.id}`" in README
    evidence = next(line for line in (ROOT / "data" / "evidence.jsonl").read_text().splitlines() if record.id in line)
    evidence = json.loads(evidence)
    assert f"`{evidence['check']}`" in README
    assert (evidence["old_env"], evidence["new_env"]) == (["numpy==1.26.4"], ["numpy==2.0.0"])
    [old] = [words[1] for words in commands() if words[0] == "printf"]
    assert old.replace("\\n", "\n") == record.old_code + "\n"

    completion = re.search(r"````text\n(.*?)````", README, flags=re.S)[1]
    found = score(completion, record.new_code)
    assert found.code == record.old_code
    told = [float(number) for number in re.findall(r"\*\*\+([\d.]+)\*\*", README.split("## The reward, worked")[1])]
    assert told == [found.format, round(found.es_star + 1e-9, 2), round(found.format + found.es_star + 1e-9, 2)]


def test_no_placeholder_is_left():
    assert "@@" not in README
