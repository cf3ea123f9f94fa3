#!/usr/bin/env bash
# A run on all devices of one machine, or of several: torchrun starts a process for each device.
#
#   one machine         scripts/cluster/torchrun_fit.sh --config configs/llava15_7b_qlora.yaml
#   on each of several  MACHINES=2 NUMBER=0 HEAD=10.0.0.1 scripts/cluster/torchrun_fit.sh --config ...
#                       MACHINES=2 NUMBER=1 HEAD=10.0.0.1 scripts/cluster/torchrun_fit.sh --config ...
#
# MACHINES   how many there are.
# NUMBER     which of them this is, counted from 0.
# HEAD       address of machine 0, which the others reach; PORT, a free port there.
# DEVICES    processes of each machine; by default its GPUs.
# STRATEGY   ddp, each device with the whole base; or frozen_sharded, which splits it over the devices.
#
# What follows the script's name are options of `fit`. All machines see the run's folder and the data at the same paths.
# The step batches are those of one device: data.init_args.effective_batch counts the conversations of all devices.
#
# A process that dies ends the others within a minute. The same command with --ckpt_path last goes on behind the last
# checkpoint, on as many devices; Ctrl-C and SIGTERM finish the step and write one first.
set -euo pipefail
machines=${MACHINES:-1} port=${PORT:-29500} strategy=${STRATEGY:-ddp}
devices=${DEVICES:-$(nvidia-smi --list-gpus | wc -l)}
if [ "$machines" -gt 1 ]; then
    : "${NUMBER:?Say which machine this is: NUMBER=0 to $((machines - 1))}" "${HEAD:?Name machine 0: HEAD=10.0.0.1}"
fi

# No restarts by torchrun: it would begin the command again from its start, and a run goes on only where that is asked for.
exec "${PYTHON:-python}" -m torch.distributed.run --max-restarts 0 \
    --nnodes "$machines" --nproc-per-node "$devices" --node-rank "${NUMBER:-0}" \
    --master-addr "${HEAD:-127.0.0.1}" --master-port "$port" \
    -m vlm_lit fit "$@" --trainer.strategy "$strategy" --trainer.devices "$devices" --trainer.num_nodes "$machines"
