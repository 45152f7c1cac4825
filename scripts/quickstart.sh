#!/usr/bin/env bash
# The whole pipeline, small: SmolLM2-135M -> a short SFT warm-up -> GRPO + DoRA with the real rewards -> held-out test.
# On two CPU cores in about 20 minutes after installation; no GPU and no model hub.
#
#   bash scripts/quickstart.sh                    killed half-way? the same command resumes
#   bash scripts/quickstart.sh --max_steps 64     flags go to the GRPO stage
#   rm -r runs/quickstart                         start over
#
# Everything is written to runs/quickstart. DRY_RUN=1 prints the commands.
source "$(dirname "$0")/common.sh"
[[ "${1:-}" != -h && "${1:-}" != --help ]] || show_help
if (($#)) && [[ -z "${DRY_RUN:-}" && -e runs/quickstart/grpo/adapter_model.safetensors ]]; then
  die "runs/quickstart/grpo is trained: rm -r runs/quickstart/grpo runs/quickstart/heldout-grpo to train it with $*"
fi
model=models/SmolLM2-135M-Instruct
out=runs/quickstart
use_python
need requirements.txt

heldout() { run "$PYTHON" src/heldout.py --data data/heldout.jsonl --out "$out/heldout-$1" "${@:2}"; }

on_cpu
warm_smollm2
say "held-out records: the model as it is, and after SFT"
heldout base --model "$model"
heldout sft --model "$out/sft-merged"
say "GRPO + DoRA"
stage "$out/grpo/adapter_model.safetensors" \
  "$PYTHON" src/grpo.py --config configs/quickstart/grpo.yaml --resume_from_checkpoint auto "$@"
say "held-out records: after SFT and GRPO"
heldout grpo --model "$out/sft-merged" --adapter "$out/grpo"
say "the reward curve and the summary"
run "$PYTHON" src/plot.py "$out/grpo" --out "$out/reward.png" --ema 0.6
run "$PYTHON" src/report.py "$out"
