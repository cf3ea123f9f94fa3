#!/usr/bin/env bash
# A run on several GPUs, of one node or of many, as a SLURM job: srun starts a process for each GPU.
#
#   sbatch --account=... --partition=... --nodes=2 scripts/cluster/slurm_fit.sh --config configs/llava15_7b_qlora.yaml
#
# What follows the script's name are options of `fit`. Submit from the folder that their paths are relative to; all nodes
# see it. Variables, set before `sbatch`:
#
# PYTHON     the Python that vlm_lit is installed in; by default that of the environment you submit from.
# STRATEGY   ddp, each device with the whole base; or frozen_sharded, which splits it over the devices.
# Without GPUs: sbatch --gpus-per-node=0 --ntasks-per-node=2 ... and --trainer.accelerator cpu behind the script's name.
#
# The time limit, preemption, scancel: SLURM sends SIGUSR1 three minutes before the limit (--signal below; up to a minute
# earlier than asked) and SIGTERM otherwise. The step is finished and its state kept either way.
#   time limit              the first process has SLURM run the job again (scontrol requeue)
#   scontrol requeue        SLURM runs it again itself
#   preemption at once      so it does (--requeue, where the cluster's PreemptMode is REQUEUE)
#   preemption, GraceTime   SLURM would take a job that ends within this time for failed, so the first process asks here too
#   scancel                 nobody runs it again; the same sbatch with --ckpt_path last goes on
#   a process that dies     the others end within a minute and the job fails; go on as behind scancel
# A job that runs again, which SLURM does after two minutes, goes on from its last checkpoint with nothing to type. SLURM
# kills what is still there KillWait (30 s by default) after SIGTERM, and at the limit after SIGUSR1: where a step and a
# checkpoint take longer, raise --signal's seconds, and let checkpoints be written more often.
#
# Tried with SLURM 22.05.8 on 2026-11-29, on a machine with two virtual nodes, gloo, CPUs: 120 steps of a tiny model on 2
# processes of one node and on one of each node are bit-equal, and so are runs ended in each of these ways. Then found:
# a preempted job with GraceTime was not run again, one told to end while it imported its libraries neither, and the
# processes could not meet where a node's name cannot be looked up. tests/scripts/test_slurm.py is the short form.
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

# On one node the processes meet at this address. On several they look up the first one's name, unless it is given here.
if [ "$SLURM_JOB_NUM_NODES" -eq 1 ]; then export MASTER_ADDR="${MASTER_ADDR:-127.0.0.1}"; fi

# `srun` makes the processes a step, which is what --signal reaches; --kill-on-bad-exit ends it where one of them dies.
exec srun --kill-on-bad-exit=1 "${PYTHON:-python}" -m vlm_lit fit "$@" \
    --trainer.strategy "${STRATEGY:-ddp}" --trainer.enable_progress_bar false \
    --trainer.devices "$SLURM_NTASKS_PER_NODE" --trainer.num_nodes "$SLURM_JOB_NUM_NODES"
