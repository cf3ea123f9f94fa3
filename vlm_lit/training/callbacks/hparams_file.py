"""TensorBoard's table of hyperparameters (its tab HPARAMS), as an event file of its own.

TensorBoard believes the first file in which it meets the table. This one's name sorts before those of the runs' logs
and it is written anew by each `fit`, so a run that was resumed with more epochs has one row, and that is the true one.
"""

from __future__ import annotations

import io
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final

from tensorboard.compat.proto.event_pb2 import Event
from tensorboard.compat.proto.summary_pb2 import Summary
from tensorboard.plugins.hparams.api_pb2 import (
    DATA_TYPE_BOOL,
    DATA_TYPE_FLOAT64,
    DATA_TYPE_STRING,
    Experiment,
    HParamInfo,
    MetricInfo,
    MetricName,
)
from tensorboard.plugins.hparams.metadata import EXPERIMENT_TAG, SESSION_START_INFO_TAG, create_summary_metadata
from tensorboard.plugins.hparams.plugin_data_pb2 import HParamsPluginData, SessionStartInfo
from tensorboard.summary.writer.record_writer import RecordWriter

from vlm_lit.files.whole import write_whole

NAME: Final = "events.out.tfevents.0.hparams"
_BEFORE_ALL_STEPS: Final = -1  # a log that begins says "forget what was from step 0 on"

Value = str | float | bool


def write_hparams(folder: Path, columns: Sequence[str], values: Mapping[str, Value], metrics: Sequence[str]) -> None:
    """Write the table's row of one run.

    Args:
        folder: where the run's event files are.
        columns: every hyperparameter that a run can have. TensorBoard takes them from one run for all.
        values: this run's.
        metrics: tags of scalars, whose last values stand beside them.
    """
    infos = [HParamInfo(name=name, type=_kind(values.get(name))) for name in columns]
    shown = [MetricInfo(name=MetricName(tag=tag)) for tag in metrics]
    row = SessionStartInfo()
    for name, value in values.items():
        field = {DATA_TYPE_BOOL: "bool_value", DATA_TYPE_FLOAT64: "number_value"}.get(_kind(value), "string_value")
        setattr(row.hparams[name], field, value)
    summaries = {
        EXPERIMENT_TAG: HParamsPluginData(experiment=Experiment(hparam_infos=infos, metric_infos=shown)),
        SESSION_START_INFO_TAG: HParamsPluginData(session_start_info=row),
    }
    events = [
        Event(wall_time=time.time(), file_version="brain.Event:2"),
        *(_event(tag, content) for tag, content in summaries.items()),
    ]
    file = io.BytesIO()
    writer = RecordWriter(file)
    for event in events:
        writer.write(event.SerializeToString())
    write_whole(folder / NAME, file.getvalue())


def _event(tag: str, content: HParamsPluginData) -> Event:
    metadata = create_summary_metadata(content)
    summary = Summary(value=[Summary.Value(tag=tag, metadata=metadata)])
    return Event(wall_time=time.time(), step=_BEFORE_ALL_STEPS, summary=summary)


def _kind(value: Value | None) -> int:
    if isinstance(value, bool):
        return int(DATA_TYPE_BOOL)
    return int(DATA_TYPE_FLOAT64 if isinstance(value, (int, float)) else DATA_TYPE_STRING)
