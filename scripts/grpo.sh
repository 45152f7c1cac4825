#!/usr/bin/env bash
# GRPO with DoRA: the paper's run (configs/grpo.yaml) on every GPU of this node, or of several nodes.
#
#   bash scripts/grpo.sh                                                    the paper, Qwen2.5-Coder-7B-Instruct
#   bash scripts/grpo.sh --model_name_or_path deepseek-ai/deepseek-coder-7b-instruct-v1.5 --output_dir runs/deepseek
#   bash scripts/grpo.sh --config configs/quickstart/grpo.yaml              another configuration
#   bash scripts/grpo.sh --config configs/grpo_vllm.yaml                    rollouts with vLLM on the same GPUs
#   bash scripts/grpo.sh --resume_from_checkpoint auto                      resume from the last checkpoint
#   NNODES=2 NODE_RANK=0 MASTER_ADDR=10.0.0.1 bash scripts/grpo.sh --prompts_per_step 8    on the first of two nodes
#   NNODES=2 NODE_RANK=1 MASTER_ADDR=10.0.0.1 bash scripts/grpo.sh --prompts_per_step 8    on the second
#
# Flags go to src/grpo.py and override the YAML. Environment:
#   GPUS=N            GPUs of this node to use, a process each (default: all that are visible)
#   ACCELERATE=zero2  selects configs/accelerate/zero2.yaml (DeepSpeed ZeRO-2)
#   NNODES, NODE_RANK, MASTER_ADDR, MASTER_PORT (default 29500)    several nodes (docs/hardware.md); Slurm: scripts/slurm
#   PREFLIGHT=0       starts even if src/preflight.py finds that the run does not fit
#   INSTALL_ONLY=1    checks and installs, but does not train
#   DRY_RUN=1         checks the flags and prints the command
source "$(dirname "$(readlink -f "$0")")/common.sh" # also if it is called through a link
[[ "${1:-}" != -h && "${1:-}" != --help ]] || show_help
train src/grpo.py configs/grpo.yaml "$@"
