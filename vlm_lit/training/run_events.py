"""Event files of a run, in the order in which the run wrote them, whatever the clocks of its machines say.

TensorBoard reads a folder's event files in the order of their names, which begin with the time they were made at. Where
a run goes on under a clock that stands behind (another machine, a clock that was set right), its file would be read
first, and the mark in it that voids an earlier process's last steps would void nothing.
"""

from __future__ import annotations

import os
import re
import socket
import time
from pathlib import Path
from typing import Any, Final

from tensorboard.compat.proto.event_pb2 import Event, SessionLog
from tensorboard.summary.writer.record_writer import RecordWriter
from torch.utils.tensorboard.writer import FileWriter, SummaryWriter

_NAME: Final = re.compile(r"events\.out\.tfevents\.(\d+)\.")
_VERSION: Final = "brain.Event:2"


class RunEvents(SummaryWriter):
    """A SummaryWriter whose file is made with its first entry, and whose name stands behind all that are there."""

    _begun = False

    def __init__(self, log_dir: str) -> None:
        super().__init__(log_dir)  # it would make its file here: a run that is refused leaves none
        self._begun = True

    def _get_file_writer(self) -> FileWriter | None:
        if self._begun and self.file_writer is None:
            writer: Any = _EventWriter(Path(self.log_dir))
            self.file_writer, self.all_writers = writer, {self.log_dir: writer}  # type: ignore[assignment]
        return self.file_writer

    def close(self) -> None:
        """Flush and close the file; what comes after that is written to another."""
        super().close()
        self.file_writer = None

    def void_from(self, step: int) -> None:
        """Let readers forget what earlier files hold from a step on."""
        writer = self._get_file_writer()
        assert writer is not None
        writer.add_event(Event(file_version=_VERSION), step)
        writer.add_event(Event(session_log=SessionLog(status=SessionLog.START)), step)


class _EventWriter(FileWriter):
    """torch's writer of entries, over a file of ours."""

    def __init__(self, folder: Path) -> None:
        self.event_writer = _EventFile(folder)
        self.add_event(Event(file_version=_VERSION))


class _EventFile:
    """An event file without a buffer: what was logged is there after a kill, and no forked worker writes it twice."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.folder = folder
        self._descriptor = os.open(folder / _name_behind(folder), os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o666)
        self._records = RecordWriter(self)

    def get_logdir(self) -> str:
        return str(self.folder)

    def add_event(self, event: Any) -> None:  # noqa: ANN401 - a protocol buffer
        self._records.write(event.SerializeToString())

    def write(self, data: bytes) -> None:
        """Write a record's bytes; a disk that is nearly full takes a part of them first."""
        rest = memoryview(data)
        while rest:
            rest = rest[os.write(self._descriptor, rest) :]

    def flush(self) -> None:
        pass

    def close(self) -> None:
        os.close(self._descriptor)


def _name_behind(folder: Path) -> str:
    """The name of a new event file: its time is the clock's, or later than those of the files in `folder`."""
    names = (_NAME.match(path.name) for path in folder.glob("events.out.tfevents.*"))
    latest = max((int(name[1]) for name in names if name), default=0)
    # Its form is TensorBoard's own, with nothing counted: there is one such file of a second.
    return f"events.out.tfevents.{max(int(time.time()), latest + 1):010d}.{socket.gethostname()}.{os.getpid()}.0"
