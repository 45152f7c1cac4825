#!/usr/bin/env bash
# The whole pipeline, small: SmolLM2-135M -> a short SFT warm-up -> GRPO + DoRA with the real rewards -> held-out test.
# On two CPU cores in 7 minutes after installation, more on older cores; no GPU and no model hub.
#
#   bash scripts/quickstart.sh                    the same command resumes after an interruption
#   bash scripts/quickstart.sh --max_steps 64     flags go to the GRPO stage
#   rm -r runs/quickstart                         start over
#
# Everything is written to runs/quickstart. DRY_RUN=1 prints the commands.
. "$(dirname "$(readlink -f "$0")")/common.sh"
[[ "${1:-}" != -h && "${1:-}" != --help ]] || show_help
if (($#)) && [[ -z "${DRY_RUN:-}" && -e runs/quickstart/grpo/adapter_model.safetensors ]]; then
  die "runs/quickstart/grpo is trained: rm -r runs/quickstart/grpo runs/quickstart/heldout/grpo to train it with $*"
fi
model=models/SmolLM2-135M-Instruct
out=runs/quickstart
use_python
need requirements.txt
if (($#)); then # before the download; as in a dry run, the model that GRPO starts from does not exist yet
  GPUS=0 DRY_RUN=1 check_flags src/grpo.py --config configs/quickstart/grpo.yaml "$@"
fi

# heldout NAME FLAGS...: four samples of a model on each of 24 short held-out records, drawn as the rollouts of training
# are, and their rewards. Samples that are there are not drawn again.
heldout() {
  local folder="$out/heldout/$1"
  run "$PYTHON" src/generate.py --benchmark migration --data data/heldout.jsonl --max-target-tokens 60 --limit 24 \
    --samples 4 --temperature 1 --top-p 1 --max-new-tokens 96 --batch-size 24 --out "$folder/samples.jsonl" "${@:2}"
  stage "$folder/results.json" "$PYTHON" src/score.py --samples "$folder/samples.jsonl" --no-run --out "$folder"
}

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
say "the reward curve, the summary, and the page of the runs"
run "$PYTHON" src/plot.py "$out/grpo" --out "$out/reward.png" --ema 0.6
run "$PYTHON" src/score.py --compare "$out"/heldout/{base,sft,grpo} --out "$out/summary.md"
run "$PYTHON" src/report.py "$out" --out "$out/report.html" --ema 0.6
[[ -n "${DRY_RUN:-}" ]] || cat <<END
The weights are SmolLM2's 4-bit GGUF, dequantised. To train longer: rm -r $out/grpo $out/heldout/grpo, then
bash scripts/quickstart.sh --max_steps 64

where things are:
  $out/report.html      open it in a browser: what ran, curves, results, every sample with its rewards and reasons
  $out/summary.md       this summary
  $out/reward.png       the reward curve
  $out/grpo             the GRPO run: adapter, metrics.jsonl, rollouts.jsonl, run.json
  $out/sft-merged       the model that GRPO started from (the adapter's base)
  $out/heldout/grpo     what the trained model answered (samples.jsonl), and its rewards (verdicts.jsonl)
END
