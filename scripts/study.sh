#!/usr/bin/env bash
# The study: does RL teach a model to follow the note? Trains and measures every run of configs/study/SCALE.yaml, one
# after another. A training uses every GPU of this node, a measure one; without GPUs, everything runs on the CPU.
#
#   bash scripts/study.sh                                          the same as --scale small: Qwen2.5-Coder-0.5B-Instruct
#   bash scripts/study.sh --scale paper                            the paper's grid at 7B
#   bash scripts/study.sh --list                                   the state of each run
#   bash scripts/study.sh --only sft-ours-42                       one run; a pattern such as 'grpo-*' chooses several
#   bash scripts/study.sh --measures 'arena*'                      only these measures of each run
#   bash scripts/study.sh --report                                 tables and figures of the results so far
#
# The same command resumes after an interruption, and repeats what failed. Other flags go to src/study.py. Environment:
# GPUS=N (default: all that are visible; 0: a CPU), HUMANEVAL_OVERRIDE_PATH=FILE for HumanEval+'s data (else
# downloaded), DRY_RUN=1 prints the commands.
. "$(dirname "$(readlink -f "$0")")/common.sh"
[[ "${1:-}" != -h && "${1:-}" != --help ]] || show_help
scale=small flags=() only_reads=""
while (($#)); do
  case "$1" in
    --scale) (($# > 1)) || die "--scale needs a value" && scale="$2" && shift ;;
    --scale=*) scale="${1#*=}" ;;
    --list | --report | --check | --dry-run) only_reads=1 flags+=("$1") ;;
    *) flags+=("$1") ;;
  esac
  shift
done
[[ "$scale" != */* && -f "configs/study/$scale.yaml" ]] ||
  die "--scale $scale: configs/study/$scale.yaml does not exist: small, paper, or a file of your own there"
use_python
use_gpus
need requirements.txt
study=("$PYTHON" src/study.py "configs/study/$scale.yaml" --gpus "$GPUS" --evalplus .venvs/evalplus/bin/python "${flags[@]}")
if [[ -n "$only_reads" ]]; then
  run_last "${study[@]}"
  exit 0 # a dry run
fi
if [[ -n "${DRY_RUN:-}" ]]; then # the commands of the stages; before anything is installed, that of the queue
  if has trl; then exec "${study[@]}" --dry-run; fi
  run "${study[@]}"
  exit 0
fi
left="$("${study[@]}" --dry-run)" # reports a wrong flag before anything else is installed
need requirements/eval.txt
if [[ "$left" == *"--benchmark humaneval"* || "$left" == *"--benchmark mbpp"* ]]; then evalplus_python; fi
layers="$("${study[@]}" --check)"
read -ra layers <<<"$layers"
need "${layers[@]}"
run_last "${study[@]}"
