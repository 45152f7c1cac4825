#!/usr/bin/env bash
# The SFT baseline on the same records with the same adapter (configs/sft.yaml) on every GPU of this node, or of
# several nodes.
#
#   bash scripts/sft.sh
#   bash scripts/sft.sh --learning_rate 2e-5 --output_dir runs/sft-slow
#   bash scripts/sft.sh --config configs/quickstart/sft.yaml
#
# Flags go to src/sft.py and override the YAML. Environment, as for scripts/grpo.sh: GPUS, ACCELERATE, NNODES, NODE_RANK,
# MASTER_ADDR, MASTER_PORT, PREFLIGHT, INSTALL_ONLY, DRY_RUN.
source "$(dirname "$(readlink -f "$0")")/common.sh" # also if it is called through a link
[[ "${1:-}" != -h && "${1:-}" != --help ]] || show_help
train src/sft.py configs/sft.yaml "$@"
