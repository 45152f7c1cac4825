#!/usr/bin/env bash
# The study: does RL teach a model to follow the note? Trains and measures every run of configs/study/SCALE.yaml, one
# after another, on every GPU of this node or on a CPU. docs/study.md has the results at half a billion parameters.
#
#   bash scripts/study.sh --scale small                            Qwen2.5-Coder-0.5B-Instruct
#   bash scripts/study.sh --scale paper                            the paper's grid at 7B
#   bash scripts/study.sh --scale small --list                     the state of each run
#   bash scripts/study.sh --scale small --only sft-ours-42         one run; a pattern such as 'grpo-*' chooses several
#
# The same command resumes after an interruption, and repeats what failed. Other flags go to src/study.py. Environment:
# GPUS=N (default: all that are visible; 0: a CPU), HUMANEVAL_OVERRIDE_PATH=FILE for HumanEval+'s data (else
# downloaded), DRY_RUN=1 prints the commands.
. "$(dirname "$(readlink -f "$0")")/common.sh"
[[ "${1:-}" != -h && "${1:-}" != --help ]] || show_help
scale="" flags=()
while (($#)); do
  case "$1" in
    --scale) (($# > 1)) || die "--scale needs a value" && scale="$2" && shift ;;
    --scale=*) scale="${1#*=}" ;;
    *) flags+=("$1") ;;
  esac
  shift
done
scales="$(basename -as .yaml configs/study/{small,paper}.yaml | paste -sd ' ')"
[[ " $scales " == *" $scale "* && -n "$scale" ]] || die "--scale ${scale:-is missing}: choose from $scales"
use_python
use_gpus
need requirements.txt requirements/eval.txt
evalplus_python
if [[ " ${flags[*]} " == *" --list "* ]]; then unset DRY_RUN; fi # it only reads
flags=("configs/study/$scale.yaml" --gpus "$GPUS" --evalplus "$EVALPLUS_PYTHON" "${flags[@]}")
if [[ -n "${DRY_RUN:-}" ]]; then
  ! has pydantic || "$PYTHON" src/study.py "${flags[@]}" --dry-run
else
  run_last "$PYTHON" src/study.py "${flags[@]}"
fi
