#!/usr/bin/env bash
# CodeUpdateArena and the multi-update questions for one model: samples, scores, a table beside the paper's numbers.
#
#   bash scripts/evaluate.sh --model runs/grpo --out runs/eval/grpo
#   bash scripts/evaluate.sh --model Qwen/Qwen2.5-Coder-32B-Instruct --backend endpoint --url http://localhost:8000/v1
#   bash scripts/evaluate.sh --model models/SmolLM2-135M-Instruct --backend transformers --limit 100 --samples 5
#
# --out DIR (default runs/eval/run) and --config FILE (default configs/eval.yaml); the other flags go to src/generate.py
# and win over the YAML. Killed half-way, the same command goes on. Environment: SCORE="--k 1 --label MODEL/METHOD" has
# flags for src/score.py, MULTI=0 leaves the multi-update questions out, DRY_RUN=1 prints the commands.
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
    --benchmark | --benchmark=*) die "--benchmark: this script runs both; use src/generate.py and src/score.py for one" ;;
    *) flags+=("$1") ;;
  esac
  shift
done
read -ra score <<<"${SCORE:-}"
use_python
need requirements.txt requirements-eval.txt
if (($(count_gpus) > 0)); then need requirements-gpu.txt; fi
multi="$out/multi-questions.jsonl"
generate() { run "$PYTHON" src/generate.py --config "$config" "$@"; }

say "1/4 samples: CodeUpdateArena"
generate "${data[@]}" "${flags[@]}" --out "$out/arena.jsonl"
say "2/4 scores: CodeUpdateArena"
run "$PYTHON" src/score.py --samples "$out/arena.jsonl" --out "$out/arena" "${score[@]}"
[[ "${MULTI:-1}" != 0 ]] || exit 0
if [[ -n "${DRY_RUN:-}" || ! -e "$multi" ]]; then
  say "3/4 twenty multi-update questions"
  run "$PYTHON" src/multi_update.py --samples "$out/arena.jsonl" --out "$multi"
fi
say "4/4 multi-update questions: samples and scores"
generate "${flags[@]}" --benchmark multi --data "$multi" --out "$out/multi.jsonl"
run "$PYTHON" src/score.py --samples "$out/multi.jsonl" --out "$out/multi" "${score[@]}"
