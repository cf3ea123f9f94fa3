"""Samples of WebDataset shards, each read by its place: of an archive only the headers are gone through.

A sample is its files, by their endings: a `.json` as a `.json` file is read, a `.txt` as words, a `.cls` as a number, a
picture as `datasets` keeps one, and any other as its bytes. Each is what it is whatever its neighbours have.
"""

from __future__ import annotations

import re
import tarfile
from array import array
from bisect import bisect_right
from collections.abc import Callable, Iterator, Mapping, Sequence
from copy import copy
from functools import partial
from io import BytesIO
from itertools import accumulate, groupby
from pathlib import Path, PurePosixPath
from typing import Any, Final, NamedTuple, overload

from vlm_lit.data.records.naming import Naming
from vlm_lit.data.records.shards import NUMBERS, PICTURES, TEXTS
from vlm_lit.data.records.tar_members import PACKED
from vlm_lit.errors import RecordError
from vlm_lit.files.strict_json import parse_json
from vlm_lit.files.user_cache import Cached
from vlm_lit.schema import Record

_NAME: Final = re.compile(r"((?:.*/)?[^./]+)\.([^/]*)", re.DOTALL)
_JSON: Final = ("json", "jsn")
_MEMBER: Final = "records.member"
_LARGE: Final = 64 * 2**20
"""From this size on it is kept where the samples of a shard begin."""


class Member(NamedTuple):
    """A file within an archive: its name, where its header is, and where its bytes begin and how many they are."""

    name: str
    header: int
    begin: int
    size: int


def members(path: Path, start: int = 0) -> Iterator[Member]:
    """The files of an archive that are not hidden, in order, from one header on; their own bytes are not read."""
    # Without a buffer, which would read some of a file behind each header.
    with path.open("rb", buffering=0) as file:
        file.seek(start)
        with tarfile.open(fileobj=file, mode="r:") as archive:
            while (member := archive.next()) is not None:
                archive.members = []  # type: ignore[attr-defined]  # or they fill the memory
                if member.isreg() and not PurePosixPath(member.name).name.startswith((".", "__")):
                    yield Member(member.name, member.offset, member.offset_data, member.size)


def later_samples(files: Sequence[Path]) -> Iterator[Callable[[], Mapping[str, object]]]:
    """What reads each sample of shards, one shard after the other; it may be called in any order, or not at all."""
    for path in files:
        for found in _whole_samples(path):
            yield partial(_read, path, found)


class TarRecords(Sequence[Record]):
    """Records of WebDataset shards, read from the archives when asked for.

    Args:
        files: the shards.
        naming: makes a record of a sample.
    """

    def __init__(self, files: Sequence[Path], naming: Naming) -> None:
        self._files, self._naming = files, naming
        self._headers = [_headers(path) for path in files]
        self._ends = list(accumulate(map(len, self._headers)))
        self._rows = range(self._ends[-1])

    def __len__(self) -> int:
        return len(self._rows)

    @overload
    def __getitem__(self, index: int) -> Record: ...
    @overload
    def __getitem__(self, index: slice) -> TarRecords: ...
    def __getitem__(self, index: int | slice) -> Record | TarRecords:
        if isinstance(index, slice):
            some = copy(self)
            some._rows = self._rows[index]
            return some
        row = self._rows[index]
        shard = bisect_right(self._ends, row)
        path, header = self._files[shard], self._headers[shard][row - self._ends[shard]]  # counted from the shard's end
        return self._naming.record(row, _read(path, next(_samples(path, header))))


def _headers(path: Path) -> Sequence[int]:
    """Where the header of each sample's first file is."""
    if (about := path.stat()).st_size < _LARGE:
        return array("Q", (found[0].header for found in _whole_samples(path)))
    cached = Cached("samples", {"file": str(path.resolve()), "size": about.st_size, "time": about.st_mtime_ns})
    kept: Any = cached.read()
    if kept is None:
        kept = [found[0].header for found in _whole_samples(path)]
        cached.write(kept)
    return array("Q", kept)


def _whole_samples(path: Path) -> Iterator[list[Member]]:
    """The samples of a shard, of which none comes in two parts.

    Raises:
        RecordError: files of one sample have those of another between them.
    """
    seen = set[str]()
    for found in _samples(path):
        key, _ = _split(found[0].name)
        if key in seen:
            problem = f"its files do not stand together, those of other samples are between them: {found[0].name}"
            remedy = "Write the archive sorted by name: tar --sort=name."
            raise RecordError(problem, remedy=remedy, file=path, record=key, code=_MEMBER)
        seen.add(key)
        yield found


def _samples(path: Path, start: int = 0) -> Iterator[list[Member]]:
    """Neighbouring files whose names are alike up to their endings; a file without an ending is of none."""
    named = ((_split(member.name)[0], member) for member in members(path, start))
    for _, found in groupby((pair for pair in named if pair[0]), key=lambda pair: pair[0]):
        yield [member for _, member in found]


def _split(name: str) -> tuple[str, str]:
    """The name of a file's sample, and all of its endings; both empty where it has none."""
    found = _NAME.fullmatch(name)
    return (found[1], found[2]) if found is not None else ("", "")


def _read(path: Path, found: Sequence[Member]) -> Mapping[str, object]:
    key, _ = _split(found[0].name)
    sample: dict[str, object] = {}
    with path.open("rb", buffering=0) as file:
        for member in found:
            _, field = _split(member.name)
            if field in sample:
                remedy = "Give each file a name of its own."
                raise RecordError("it stands there twice", remedy=remedy, file=path, record=member.name, code=_MEMBER)
            sample[field] = _value(path, member, _bytes_of(file, member).getvalue())
    return {**sample, "__key__": key, "__url__": str(path)}


def _value(path: Path, member: Member, data: bytes) -> object:
    """What a file of a sample holds, by its last ending."""
    name = PurePosixPath(member.name)
    if (unpack := PACKED.get(name.suffix.lower())) is not None:
        with unpack(BytesIO(data)) as packed:
            data, name = packed.read(), name.with_suffix("")
    ending = name.suffix.lower().removeprefix(".")
    if ending in PICTURES:
        return {"bytes": data, "path": member.name}
    try:
        if ending in _JSON:
            return parse_json(data, path)
        if ending in TEXTS:
            return data.decode("utf-8-sig").removesuffix("\n").removesuffix("\r")
        return int(data) if ending in NUMBERS else data
    except RecordError as error:
        raise RecordError(error.problem, remedy=error.remedy, file=path, record=member.name, code=error.code) from None
    except ValueError as error:
        raise RecordError(
            f"cannot be read ({error})",
            remedy="Write the file again: words as UTF-8, a class as a whole number.",
            file=path,
            record=member.name,
            code="records.unreadable",
        ) from None


def _bytes_of(file: Any, member: Member) -> BytesIO:  # noqa: ANN401 - a raw file
    file.seek(member.begin)
    parts = bytearray()
    while len(parts) < member.size and (part := file.read(member.size - len(parts))):
        parts += part
    if len(parts) < member.size:
        raise EOFError(f"the archive ends within {member.name}")
    return BytesIO(parts)
