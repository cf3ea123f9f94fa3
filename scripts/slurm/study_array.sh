#!/usr/bin/env bash
# A study on a SLURM cluster: an array job of which every task is a worker on the same queue.
#
#   STUDY=configs/study/lora_rank.yaml STORAGE=postgresql+psycopg://me@db.cluster/studies \
#       sbatch --array=1-8 --account=... --partition=... scripts/slurm/study_array.sh
#
# STUDY    the study file. Submit from the folder that its paths are relative to.
# STORAGE  the queue: a PostgreSQL database that all nodes reach. A password belongs into ~/.pgpass (see libpq), not here.
#          Where all tasks run on one node it may be left out: the queue is then a file in the study's folder.
#          That folder must be one that all nodes see, as the folder of the study's results must be.
#
# Each task takes one cell after the other until none is left, so the array's size is how many cells run at a time, not
# how many there are. Tasks may start late, or never; a second array on the same study helps the first.
#
# Preemption, a time limit, scancel: SLURM sends SIGTERM, at the end of the time limit already 60 s before (--signal
# below). A worker then ends its cell's process and gives the cell back at once; whoever takes it goes on from its last
# checkpoint. A node that vanishes says nothing: its cell is given to another worker after 60 s without a heartbeat. Behind
# preemption (--requeue; where SLURM would not do so, because the task has ended within the partition's GraceTime, the
# task asks for it) a task starts again and takes what is left; behind a time limit it does not: submit the array again.
# So a task may be ended in any way at any time. Tried with SLURM 22.05.8 on 2026-11-29: two tasks shared four cells, and
# one that was preempted with GraceTime went on with its cell.
#
# PYTHON   the Python that vlm_lit is installed in; by default that of the environment you submit from.
# Without GPUs: sbatch --gpus-per-task=0.
#
# study status and study report need no job: python -m vlm_lit study status $STUDY --storage $STORAGE
#
#SBATCH --job-name=vlm_lit_study
#SBATCH --nodes=1
#SBATCH --ntasks=1
#SBATCH --cpus-per-task=8
#SBATCH --gpus-per-task=1
#SBATCH --time=12:00:00
#SBATCH --signal=TERM@60
#SBATCH --requeue
#SBATCH --open-mode=append
#SBATCH --output=%x-%A_%a.log
set -euo pipefail
: "${STUDY:?Name the study file: STUDY=configs/study/lora_rank.yaml sbatch ...}"

# `srun` makes the worker a step, which is what --signal reaches.
exec srun "${PYTHON:-python}" -m vlm_lit study run "$STUDY" ${STORAGE:+--storage "$STORAGE"}
