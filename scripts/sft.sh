#!/usr/bin/env bash
# The SFT baseline on the same records with the same adapter (configs/sft.yaml) on every GPU of this node.
#
#   bash scripts/sft.sh
#   bash scripts/sft.sh --learning_rate 2e-5 --output_dir runs/sft-slow
#   bash scripts/sft.sh --config configs/quickstart/sft.yaml
#
# Flags go to src/sft.py and override the YAML. Environment: GPUS=N sets the number of processes, ACCELERATE=zero2
# selects configs/accelerate/zero2.yaml, DRY_RUN=1 prints the command.
source "$(dirname "$0")/common.sh"
[[ "${1:-}" != -h && "${1:-}" != --help ]] || show_help
train src/sft.py configs/sft.yaml "$@"
