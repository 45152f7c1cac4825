#!/usr/bin/env bash
# DAPO with verl: the paper's run (configs/dapo.yaml) on every GPU of this node, in the foreground.
#
#   bash scripts/dapo.sh                                       the paper, Qwen2.5-Coder-7B-Instruct, DoRA
#   bash scripts/dapo.sh --config-name dapo_released           the authors' script: full weights, lr 1e-6
#   bash scripts/dapo.sh --config-name dapo_equal_budget       the budget of configs/grpo.yaml
#   bash scripts/dapo.sh actor_rollout_ref.model.path=deepseek-ai/deepseek-coder-7b-instruct-v1.5 run=deepseek
#   bash scripts/dapo.sh --cpu                                 a small run on two CPU cores: configs/quickstart/dapo.yaml
#   RAY_ADDRESS=10.0.0.1:6379 bash scripts/dapo.sh trainer.nnodes=2    on a Ray cluster that is already running (docs/dapo.md)
#
# Writes the parquet files if they are missing or out of date (src/data_process.py), then trains (src/dapo.py).
# The same command again resumes from the last checkpoint. key=value are Hydra overrides for both programs.
# Environment: GPUS=N is the number of GPUs per node, PREFLIGHT=0 starts even if src/preflight.py finds that the run does
# not fit, INSTALL_ONLY=1 checks and installs but does not train, DRY_RUN=1 prints the commands. Slurm: scripts/slurm.
. "$(dirname "$(readlink -f "$0")")/common.sh"
[[ "${1:-}" != -h && "${1:-}" != --help ]] || show_help
config=dapo cpu="" overrides=()
while (($#)); do
  case "$1" in
    --cpu) cpu=1 config=quickstart/dapo ;;
    --config-name) (($# > 1)) || die "--config-name needs a name" && config="$2" && shift ;;
    --config-name=*) config="${1#*=}" ;;
    *=*) overrides+=("$1") ;;
    *) die "unknown argument ${1%%=*}: flags are --cpu, --config-name and --help, overrides are key=value" ;;
  esac
  shift
done
[[ "$NNODES" == 1 ]] || die "NNODES=$NNODES: DAPO uses a Ray cluster: RAY_ADDRESS=… and trainer.nnodes=$NNODES (docs/dapo.md)"
use_python
described="${GPUS:-}"
if [[ -n "$cpu" ]]; then on_cpu; fi
use_gpus
[[ -n "$cpu" ]] || ((GPUS > 0)) || die "no GPU found: bash scripts/dapo.sh --cpu runs on a CPU, GPUS=N sets the number"
need requirements.txt requirements/dapo.txt
if [[ -n "$cpu" ]]; then
  unset RAY_ADDRESS # logical GPUs cannot be added to a running cluster
  warm_smollm2
else
  [[ " ${overrides[*]}" == *trainer.n_gpus_per_node=* ]] || overrides+=("trainer.n_gpus_per_node=$GPUS")
  # Report a wrong override or too few CPUs before gigabytes are downloaded. A dry run with GPUS=N is for another machine,
  # so it checks only the configuration.
  check=--check
  if [[ -n "${DRY_RUN:-}" && -n "$described" ]]; then check=--print-config; fi
  if [[ -z "${DRY_RUN:-}" ]] || has verl; then
    HF_HUB_OFFLINE=1 "$PYTHON" src/dapo.py --config-name "$config" "$check" "${overrides[@]}" >/dev/null
  fi
  gpus="$GPUS" nodes=1
  for override in "${overrides[@]}"; do
    case "$override" in
      trainer.n_gpus_per_node=*) gpus="${override#*=}" ;;
      trainer.nnodes=*) nodes="${override#*=}" ;;
    esac
  done
  preflight --config "configs/${config%.yaml}.yaml" --gpus "$gpus" --nodes "$nodes" "${overrides[@]}"
  need requirements/vllm.txt
fi
[[ -z "${INSTALL_ONLY:-}" ]] || exit 0
say "data"
run "$PYTHON" src/data_process.py --config-name "$config" --if-stale "${overrides[@]}"
say "DAPO"
run_last "$PYTHON" src/dapo.py --config-name "$config" "${overrides[@]}"
