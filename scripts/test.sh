#!/usr/bin/env bash
# Lint, types and tests, on any machine; needs no GPU and no model hub.
#
#   bash scripts/test.sh          linters, mypy, and every test under 30 seconds       (under 8 minutes on two cores)
#   bash scripts/test.sh --all    also the end-to-end runs; installs DeepSpeed         (under 45 minutes; what CI runs)
#   bash scripts/test.sh -k rewards     other flags go to pytest
#
# DRY_RUN=1 prints the commands.
source "$(dirname "$(readlink -f "$0")")/common.sh" # also if it is called through a link
[[ "${1:-}" != -h && "${1:-}" != --help ]] || show_help
selection=(-m "not slow" --durations=5) layers=()
if [[ "${1:-}" == --all ]]; then
  selection=(--durations=10) layers=(requirements/deepspeed.txt)
  shift
fi
use_python
need requirements.txt requirements/dapo.txt requirements/eval.txt requirements/dev.txt "${layers[@]}"
evalplus_python
export EVALPLUS_PYTHON
export OMP_NUM_THREADS=1 # one core for each pytest worker
bin="$(dirname "$("$PYTHON" -c 'import sys; print(sys.executable)' 2>/dev/null || echo "$PYTHON")")"
say "ruff, shellcheck and mypy"
run "$PYTHON" -m ruff check .
run "$PYTHON" -m ruff format --check .
run "$bin/shellcheck" -x --source-path=SCRIPTDIR scripts/*.sh scripts/slurm/*.sbatch .ci/run
run "$PYTHON" -m mypy
say "pytest"
# The tests of a module share its fixtures, so a worker takes whole modules.
run "$PYTHON" -m pytest -q -n auto --maxprocesses 4 --dist loadfile "${selection[@]}" "$@"
