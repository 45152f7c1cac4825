#!/usr/bin/env bash
# CodeUpdateArena, the multi-update questions and HumanEval+ for one model: samples, scores, tables beside the paper's.
#
#   bash scripts/evaluate.sh --model runs/grpo --out runs/eval/grpo
#   bash scripts/evaluate.sh --model Qwen/Qwen2.5-Coder-32B-Instruct --backend endpoint --url http://localhost:8000/v1
#   bash scripts/evaluate.sh --model models/SmolLM2-135M-Instruct --backend transformers --limit 100 --samples 5
#
# --out DIR (default runs/eval/run) and --config FILE (default configs/eval.yaml); the other flags go to src/generate.py
# and win over the YAML. Killed half-way, the same command goes on. Environment: SCORE="--k 1 --label MODEL/METHOD" has
# flags for src/score.py, MULTI=0 leaves the multi-update questions out, HUMANEVAL=0 HumanEval+, which needs evalplus's
# data (HUMANEVAL_OVERRIDE_PATH=FILE, else downloaded), HUMANEVAL_PROMPT=evalplus asks it evalplus's way, DRY_RUN=1 prints
# the commands. --prompt one-shot is for CodeUpdateArena alone: the multi-update questions and HumanEval+ have no such
# form and are asked zero-shot.
source "$(dirname "$0")/common.sh"
[[ "${1:-}" != -h && "${1:-}" != --help ]] || show_help
out=runs/eval/run config=configs/eval.yaml flags=() data=()
while (($#)); do
  case "$1" in
    --out | --config | --data) (($# > 1)) || die "$1 needs a value" ;;&
    --out) out="$2" && shift ;;
    --out=*) out="${1#*=}" ;;
    --config) config="$2" && shift ;;
    --config=*) config="${1#*=}" ;;
    --data) data=(--data "$2") && shift ;;
    --data=*) data=(--data "${1#*=}") ;;
    --benchmark | --benchmark=*) die "--benchmark: this script runs them all; use src/generate.py and src/score.py, or src/humaneval.py, for one" ;;
    *) flags+=("$1") ;;
  esac
  shift
done
read -ra score <<<"${SCORE:-}"
use_python
use_gpus
need requirements.txt requirements/eval.txt
multi="$out/multi-questions.jsonl"
generate() { run "$PYTHON" src/generate.py --config "$config" "$@"; }
# The flags once, before anything is sampled; it prints the requirements files that they need beyond these.
if [[ -z "${DRY_RUN:-}" ]] || has torch; then
  layers="$("$PYTHON" src/generate.py --config "$config" "${data[@]}" "${flags[@]}" --out "$out/arena.jsonl" --check)"
  read -ra layers <<<"$layers"
  need "${layers[@]}"
fi

say "1/5 samples: CodeUpdateArena"
generate "${data[@]}" "${flags[@]}" --out "$out/arena.jsonl"
say "2/5 scores: CodeUpdateArena"
run "$PYTHON" src/score.py --samples "$out/arena.jsonl" --out "$out/arena" "${score[@]}"
if [[ "${MULTI:-1}" != 0 ]]; then
  if [[ -n "${DRY_RUN:-}" || ! -e "$multi" ]]; then
    say "3/5 twenty multi-update questions"
    run "$PYTHON" src/multi_update.py --samples "$out/arena.jsonl" --out "$multi"
  fi
  say "4/5 multi-update questions: samples and scores"
  generate "${flags[@]}" --prompt zero-shot --benchmark multi --data "$multi" --out "$out/multi.jsonl"
  run "$PYTHON" src/score.py --samples "$out/multi.jsonl" --out "$out/multi" "${score[@]}"
fi
# Without the update (--no-docs) HumanEval+ would be what it is with it.
if [[ "${HUMANEVAL:-1}" != 0 && " ${flags[*]} " != *" --no-docs "* ]]; then
  say "5/5 HumanEval+"
  evalplus_python
  shown=()
  for ((i = 0; i < ${#score[@]}; i++)); do
    case "${score[i]}" in
      --k | --label) shown+=("${score[i]}" "${score[i + 1]:-}") ;;
      --k=* | --label=*) shown+=("${score[i]}") ;;
    esac
  done
  if run "$PYTHON" src/humaneval.py --check --python "$EVALPLUS_PYTHON"; then
    run "$PYTHON" src/humaneval.py --config "$config" "${flags[@]}" --prompt "${HUMANEVAL_PROMPT:-zero-shot}" \
      --python "$EVALPLUS_PYTHON" --out "$out/humaneval" "${shown[@]}"
  else
    echo "HumanEval+ was left out, for the reason above; HUMANEVAL=0 leaves it out silently"
  fi
fi
