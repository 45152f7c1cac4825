# shellcheck shell=bash
# Sourced by the batch files, in the repository's root: checks what Slurm has set, and starts a launcher on every node.
set -euo pipefail
for variable in SLURM_JOB_ID SLURM_JOB_NODELIST SLURM_NNODES SLURM_CPUS_PER_TASK; do
  if [[ -z "${!variable:-}" ]]; then
    echo "$variable is not set: submit the file with sbatch, and leave --cpus-per-task in it" >&2
    exit 2
  fi
done
[[ "${DRY_RUN:-}" != 0 ]] || unset DRY_RUN
FIRST="$(scontrol show hostnames "$SLURM_JOB_NODELIST" | head -n 1)"

# train_on_every_node NAME FLAGS...: scripts/NAME.sh once on each node; it resumes if there is a checkpoint.
train_on_every_node() {
  local script="scripts/$1.sh"
  shift
  set -- --resume_from_checkpoint auto "$@"
  # Two jobs on a node get different ports, below those that Linux gives to clients (32768 and above).
  export NNODES="$SLURM_NNODES" MASTER_ADDR="$FIRST" MASTER_PORT="$((20000 + SLURM_JOB_ID % 10000))"

  # Once, on the first node: check the flags and the fit, install what is missing. Several nodes at once would collide.
  NODE_RANK=0 INSTALL_ONLY=1 bash "$script" "$@"

  # One launcher on each node, whatever --ntasks was given to sbatch. If one fails, all end, instead of waiting for it.
  # shellcheck disable=SC2016 # SLURM_NODEID differs between the nodes
  srun --nodes="$NNODES" --ntasks="$NNODES" --ntasks-per-node=1 --cpus-per-task="$SLURM_CPUS_PER_TASK" \
    --export=ALL --kill-on-bad-exit=1 bash -c 'NODE_RANK="$SLURM_NODEID" exec bash "$@"' launcher "$script" "$@"
}
