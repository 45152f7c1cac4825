#!/usr/bin/env bash
# GRPO with DoRA: the paper's run (configs/grpo.yaml) on every GPU of this node.
#
#   bash scripts/grpo.sh                                                    the paper, Qwen2.5-Coder-7B-Instruct
#   bash scripts/grpo.sh --model_name_or_path deepseek-ai/deepseek-coder-7b-instruct-v1.5 --output_dir runs/deepseek
#   bash scripts/grpo.sh --config configs/quickstart/grpo.yaml              another configuration
#   bash scripts/grpo.sh --resume_from_checkpoint auto                      resume from the last checkpoint
#
# Flags go to src/grpo.py and override the YAML. Environment: GPUS=N sets the number of processes, ACCELERATE=zero2
# selects configs/accelerate/zero2.yaml, DRY_RUN=1 prints the command.
source "$(dirname "$0")/common.sh"
[[ "${1:-}" != -h && "${1:-}" != --help ]] || show_help
train src/grpo.py configs/grpo.yaml "$@"
