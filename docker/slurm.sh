#!/usr/bin/env bash
# Starts a Ray cluster inside a Slurm allocation, and runs one study on it.
#
#   sbatch docker/slurm.sh study.yaml /shared/studies http://mlflow:5000 mouse
#
# Submitted again with the same arguments, it resumes the study where the allocation ended.
# psvae_tune must be installed on all nodes. The second argument is a folder that all nodes share.
#SBATCH --job-name=psvae-tune
#SBATCH --nodes=4
#SBATCH --ntasks-per-node=1
#SBATCH --cpus-per-task=8
#SBATCH --gpus-per-task=1
#SBATCH --time=24:00:00
#SBATCH --signal=B:INT@300
set -euo pipefail
[ $# -eq 4 ] || { echo "usage: slurm.sh FILE STUDIES TRACKING_URI NAME" >&2; exit 2; }
file=$1 studies=$2 tracking=$3 name=$4

# Every allocation has its own token, in a file that only its owner can read.
export RAY_AUTH_MODE=token RAY_AUTH_TOKEN_PATH="$studies/.ray-token-$SLURM_JOB_ID"
(umask 077 && head -c 32 /dev/urandom | od -An -tx1 | tr -d ' \n' > "$RAY_AUTH_TOKEN_PATH")
trap 'rm -f "$RAY_AUTH_TOKEN_PATH"' EXIT

read -r head < <(scontrol show hostnames "$SLURM_JOB_NODELIST")
port=$((20000 + SLURM_JOB_ID % 20000))
resources=(--num-cpus "$SLURM_CPUS_PER_TASK" --num-gpus "${SLURM_GPUS_PER_TASK:-0}")

srun --nodes=1 --ntasks=1 --overlap --nodelist="$head" \
  ray start --head --block --node-ip-address="$head" --port="$port" "${resources[@]}" &
until ray health-check --address "$head:$port" 2>/dev/null; do sleep 2; done
if [ "$SLURM_JOB_NUM_NODES" -gt 1 ]; then
  srun --nodes=$((SLURM_JOB_NUM_NODES - 1)) --ntasks=$((SLURM_JOB_NUM_NODES - 1)) --overlap \
    --exclude="$head" ray start --address="$head:$port" --block "${resources[@]}" &
fi

if [ -e "$studies/$name/study.yaml" ]; then
  study=(resume "$studies/$name")
else
  study=(run "$file" --output "$studies" --name "$name")
fi
# Slurm sends SIGINT to this script before the allocation ends, and the trap passes it on. Without
# -m, bash makes a process in the background ignore SIGINT.
set -m
psvae-tune "${study[@]}" --tracking-uri "$tracking" --address "$head:$port" &
driver=$!
trap 'kill -INT "$driver"' INT TERM
wait "$driver" || wait "$driver"
