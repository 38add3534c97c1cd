#!/usr/bin/env bash
# A campaign on several hosts, a shard each, as a Slurm job array. The hosts share this folder; its file
# system must lock files across hosts (flock), or each shard needs --checkpoints of its own. Submit it
# again to go on with what was cut:
#
#   sbatch --array=1-4 experiments/plans/slurm.sh experiments/plans/cifar-10.toml
#
#SBATCH --job-name=scalpel
#SBATCH --gres=gpu:1
#SBATCH --cpus-per-task=8
#SBATCH --time=24:00:00
set -euo pipefail
plan=${1:?the plan, such as experiments/plans/cifar-10.toml}
shards=${SLURM_ARRAY_TASK_COUNT:?submit it with --array=1-n}
first=${SLURM_ARRAY_TASK_MIN:?}
exec cargo run --release --bin campaign -- "$plan" --device cuda \
  --shard "$((SLURM_ARRAY_TASK_ID - first + 1))/$shards"
