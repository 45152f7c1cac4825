#!/usr/bin/env bash
# A vLLM server that samples GRPO's rollouts on GPUs of its own (--vllm_mode server). Start it first, then train on other
# GPUs, here GPU 0 and GPUs 1 and 2. Not run here.
#
#   CUDA_VISIBLE_DEVICES=0 bash scripts/vllm_server.sh
#   CUDA_VISIBLE_DEVICES=1,2 bash scripts/grpo.sh --use_vllm true --vllm_mode server --vllm_server_base_url http://localhost:8000
#   CUDA_VISIBLE_DEVICES=0,1 GPUS=2 bash scripts/vllm_server.sh Qwen/Qwen2.5-Coder-32B-Instruct    one model on two GPUs
#   bash scripts/vllm_server.sh --seed 42                  other flags go to `vllm serve`
#   HOST=0.0.0.0 PORT=8010 bash scripts/vllm_server.sh     for a trainer on another node
#
# The model is an argument (default: configs/grpo.yaml's), and must be the trainer's. Environment: GPUS=N is the size of
# the tensor parallel group (default: 1; it must divide the model's attention heads, 28 at 7B), HOST (default: 127.0.0.1)
# and PORT (default: 8000) are where it listens, DRY_RUN=1 prints the command.
#
# Anyone who reaches the port can replace the weights (VLLM_SERVER_DEV_MODE): open it only within a trusted network. The
# trainer sends its weights over NCCL, on port 51216 of its own node (--vllm_group_port).
source "$(dirname "$(readlink -f "$0")")/common.sh" # also if it is called through a link
[[ "${1:-}" != -h && "${1:-}" != --help ]] || show_help
model=Qwen/Qwen2.5-Coder-7B-Instruct
if (($#)) && [[ "$1" != -* ]]; then
  model="$1"
  shift
fi
tensor_parallel="${GPUS:-1}"
use_python
use_gpus
((GPUS > 0)) || die "no GPU found"
need requirements.txt requirements/vllm.txt
# trl 1.16 needs: the endpoints for weights (development mode, weight transfer over NCCL) and the log-probabilities after
# temperature and filters, for its importance correction (trl/scripts/vllm_serve.py has the same flags). The context is
# max_prompt_length + max_completion_length.
run env VLLM_SERVER_DEV_MODE=1 "$PYTHON" -m vllm.entrypoints.cli.main serve "$model" \
  --host "${HOST:-127.0.0.1}" --port "${PORT:-8000}" --tensor-parallel-size "$tensor_parallel" \
  --dtype bfloat16 --max-model-len 3072 --weight-transfer-config '{"backend": "nccl"}' \
  --logprobs-mode processed_logprobs --max-logprobs -1 "$@"
