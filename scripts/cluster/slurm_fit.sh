#!/usr/bin/env bash
# A run on several GPUs, of one node or of many, as a SLURM job: srun starts a process for each GPU.
#
#   sbatch --account=... --partition=... --nodes=2 scripts/cluster/slurm_fit.sh --config configs/llava15_7b_qlora.yaml
#
# What follows the script's name are options of `fit`. Submit from the folder that their paths are relative to; all nodes
# see it. To split a frozen base over the GPUs: STRATEGY=frozen_sharded sbatch ...
#
# The time limit, preemption, scancel: SLURM sends SIGUSR1 three minutes before the limit (--signal below) and SIGTERM
# otherwise. The step is finished and its state kept either way. After SIGUSR1 the first process has SLURM run the job
# again (scontrol requeue); a preempted job SLURM itself runs again (--requeue, where the cluster's PreemptMode is
# REQUEUE). A job that runs again goes on from its last checkpoint, with nothing to type. Raise --signal's seconds
# where a step and a checkpoint take longer than that.
#
#SBATCH --job-name=vlm_lit_fit
#SBATCH --nodes=1
#SBATCH --ntasks-per-node=8
#SBATCH --gpus-per-node=8
#SBATCH --cpus-per-task=12
#SBATCH --time=12:00:00
#SBATCH --signal=USR1@180
#SBATCH --requeue
#SBATCH --open-mode=append
#SBATCH --output=%x-%j.log
set -euo pipefail
: "${SLURM_JOB_ID:?Submit it: sbatch scripts/cluster/slurm_fit.sh --config ...}"

# On one node the processes meet at this address, so the node's name need not be one that can be looked up.
if [ "$SLURM_JOB_NUM_NODES" -eq 1 ]; then export MASTER_ADDR="${MASTER_ADDR:-127.0.0.1}"; fi

# `srun` makes the processes a step, which is what --signal reaches; --kill-on-bad-exit ends it where one of them dies.
exec srun --kill-on-bad-exit=1 "${PYTHON:-python}" -m vlm_lit fit "$@" \
    --trainer.strategy "${STRATEGY:-ddp}" --trainer.enable_progress_bar false \
    --trainer.devices "$SLURM_NTASKS_PER_NODE" --trainer.num_nodes "$SLURM_JOB_NUM_NODES"
