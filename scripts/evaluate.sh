#!/usr/bin/env bash
# CodeUpdateArena, the multi-update questions and HumanEval+ for one model: samples, scores, tables beside the paper's.
#
#   bash scripts/evaluate.sh --model runs/grpo --out runs/eval/grpo
#   bash scripts/evaluate.sh --model Qwen/Qwen2.5-Coder-32B-Instruct --backend endpoint --url http://localhost:8000/v1
#   bash scripts/evaluate.sh --model models/SmolLM2-135M-Instruct --backend transformers --limit 100 --samples 5
#
# --out DIR (default runs/eval/run), --config FILE (default configs/eval.yaml), --data FILE (CodeUpdateArena's, default the
# hub's), --k and --label MODEL/METHOD for src/score.py; the other flags go to src/generate.py and win over the YAML. The
# same command resumes after an interruption. Environment: SCORE="--seconds 60" has more flags for the scores of
# CodeUpdateArena and the multi-update questions, MULTI=0 leaves the latter out, HUMANEVAL=0 HumanEval+, which needs
# evalplus's data (HUMANEVAL_OVERRIDE_PATH=FILE, else downloaded), HUMANEVAL_PROMPT=evalplus asks it in evalplus's form,
# DRY_RUN=1 prints the commands. --prompt one-shot is for CodeUpdateArena alone; the others are asked zero-shot.
source "$(dirname "$(readlink -f "$0")")/common.sh" # also if it is called through a link
[[ "${1:-}" != -h && "${1:-}" != --help ]] || show_help
out=runs/eval/run config=configs/eval.yaml model="" flags=() data=() shown=()
while (($#)); do
  flag="${1%%=*}"
  case "$flag" in
    --out | --config | --data | --k | --label | --model)
      value="${1#*=}"
      if [[ "$1" != *=* ]]; then
        (($# > 1)) || die "$1 needs a value"
        value="$2" && shift
      fi
      ;;&
    --out) out="$value" ;;
    --config) config="$value" ;;
    --data) data=(--data "$value") ;;
    --model) model="$value" flags+=(--model "$value") ;;
    --k | --label) shown+=("$flag" "$value") ;;
    --benchmark) die "--benchmark: this script runs three; use src/generate.py and src/score.py for one" ;;
    *) flags+=("$1") ;;
  esac
  shift
done
read -ra score <<<"${SCORE:-}"
# What can be seen before anything is installed.
[[ -f "$config" ]] || die "--config $config: no such file in $PWD"
[[ -z "${data[*]}" || "${data[1]}" == hf://* || -f "${data[1]}" || -n "${DRY_RUN:-}" ]] ||
  die "--data ${data[1]}: no such file in $PWD"
[[ ! "$model" =~ ^(\.|/|runs/|models/) || -d "$model" || -n "${DRY_RUN:-}" ]] || die "--model $model: no such folder in $PWD"
use_python
use_gpus
need requirements.txt requirements/eval.txt
# Flags, model and data once (a dry run: the flags), before anything is sampled; it prints the requirements files that they need beyond these.
if [[ -z "${DRY_RUN:-}" ]] || has torch; then
  layers="$("$PYTHON" src/generate.py --config "$config" "${data[@]}" "${flags[@]}" --out "$out/arena.jsonl" --check ${DRY_RUN:+flags})"
  read -ra layers <<<"$layers"
  need "${layers[@]}"
fi

# samples NAME FLAGS..., scores NAME FLAGS...: of one benchmark
samples() { run "$PYTHON" src/generate.py --config "$config" "${flags[@]}" "${@:2}" --benchmark "$1" --out "$out/$1.jsonl"; }
scores() { run "$PYTHON" src/score.py --samples "$out/$1.jsonl" --out "$out/$1" "${shown[@]}" "${@:2}"; }

say "1/3 CodeUpdateArena"
samples arena "${data[@]}"
scores arena "${score[@]}"
if [[ "${MULTI:-1}" != 0 ]]; then
  say "2/3 twenty multi-update questions"
  samples multi "${data[@]}" --prompt zero-shot
  scores multi "${score[@]}"
fi
# Without the update (--no-docs) HumanEval+ would be what it is with it.
if [[ "${HUMANEVAL:-1}" != 0 && " ${flags[*]} " != *" --no-docs "* ]]; then
  say "3/3 HumanEval+"
  evalplus_python
  if run "$PYTHON" src/score.py --benchmark humaneval --check --python "$EVALPLUS_PYTHON"; then
    samples humaneval --prompt "${HUMANEVAL_PROMPT:-zero-shot}" --python "$EVALPLUS_PYTHON"
    scores humaneval --python "$EVALPLUS_PYTHON"
  else
    echo "HumanEval+ was left out, for the reason above; HUMANEVAL=0 leaves it out silently"
  fi
fi
