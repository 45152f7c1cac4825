#!/usr/bin/env bash
# Lint and tests, on any machine; no GPU, no model hub.
#
#   bash scripts/test.sh          lint, and every test under 30 seconds   (under 10 minutes)
#   bash scripts/test.sh --all    the end-to-end runs too; installs DeepSpeed (under 45 minutes; what CI runs)
#   bash scripts/test.sh -k rewards     other flags go to pytest
source "$(dirname "$0")/common.sh"
[[ "${1:-}" != -h && "${1:-}" != --help ]] || show_help
all=""
if [[ "${1:-}" == --all ]]; then
  all=1
  shift
fi
use_python
need requirements.txt requirements/dapo.txt requirements/eval.txt requirements/dev.txt
evalplus_python
export EVALPLUS_PYTHON
if [[ -n "$all" ]]; then need requirements/deepspeed.txt; fi
say "ruff and shellcheck"
"$PYTHON" -m ruff check .
"$PYTHON" -m ruff format --check .
"$(dirname "$("$PYTHON" -c 'import sys; print(sys.executable)')")/shellcheck" -x --source-path=SCRIPTDIR scripts/*.sh .ci/run
say "pytest"
export OMP_NUM_THREADS=1 # a core for each worker; a file's tests share theirs, and its fixtures
workers=(-n auto --maxprocesses 4 --dist loadfile)
if [[ -n "$all" ]]; then
  "$PYTHON" -m pytest -q "${workers[@]}" --durations=10 "$@"
else
  "$PYTHON" -m pytest -q "${workers[@]}" -m "not slow" --durations=5 "$@"
fi
