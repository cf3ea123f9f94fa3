"""Samples of WebDataset shards, each read by its place: of an archive only the headers are gone through.

`datasets` makes a sample's fields of its members here as it does where it reads a whole archive.
"""

from __future__ import annotations

import tarfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from io import BytesIO
from itertools import groupby
from pathlib import Path, PurePosixPath
from typing import Any, NamedTuple


class Member(NamedTuple):
    """A file within an archive: its name, and where its bytes begin and how many they are."""

    name: str
    begin: int
    size: int


def members(path: Path) -> Iterator[Member]:
    """The files of an archive that are not hidden, in order; their own bytes are not read."""
    # Without a buffer, which would read some of a file behind each header.
    with path.open("rb", buffering=0) as file, tarfile.open(fileobj=file, mode="r:") as archive:
        while (member := archive.next()) is not None:
            archive.members = []  # type: ignore[attr-defined]  # or they fill the memory
            if member.isreg() and not PurePosixPath(member.name).name.startswith((".", "__")):
                yield Member(member.name, member.offset_data, member.size)


def open_samples(files: Sequence[Path]) -> TarSamples:
    """Shards whose fields' types `datasets` tells from the first samples of the first."""
    import datasets

    builder = datasets.load_dataset_builder("webdataset", data_files=[str(file) for file in files])
    builder.as_streaming_dataset(split="train")  # which looks at these samples
    return TarSamples(files, builder)


class TarSamples:
    """The samples of shards, one shard after the other.

    Args:
        files: the shards.
        builder: the `webdataset` builder of `datasets`, which knows the fields' types.
    """

    def __init__(self, files: Sequence[Path], builder: Any) -> None:  # noqa: ANN401 - its methods are private
        self.files, self.builder = files, builder

    @property
    def features(self) -> Mapping[str, object]:
        """The fields' types."""
        features: Mapping[str, object] = self.builder.info.features
        return features

    def __iter__(self) -> Iterator[Callable[[], Mapping[str, object]]]:
        """What reads each sample; it may be called in any order, or not at all."""
        for path in self.files:
            for found in _samples(path):
                yield partial(self._read, path, found)

    def _read(self, path: Path, found: Sequence[Member]) -> Mapping[str, object]:
        import pyarrow  # type: ignore[import-untyped]
        from datasets.features.features import cast_to_python_objects
        from datasets.table import cast_table_to_features

        with path.open("rb", buffering=0) as file:
            given = [(member.name, _bytes_of(file, member)) for member in found]
        ((_, sample),) = self.builder._generate_examples(tar_paths=[str(path)], tar_iterators=[given])
        table = pyarrow.Table.from_pylist(cast_to_python_objects([sample], only_1d_for_numpy=True))
        row: Mapping[str, object] = cast_table_to_features(table, self.features).to_pylist()[0]
        return row


def _samples(path: Path) -> Iterator[list[Member]]:
    """Neighbouring files whose names are alike up to their endings; a file without an ending is of none."""
    from datasets.packaged_modules.webdataset.webdataset import base_plus_ext

    named = ((base_plus_ext(member.name)[0], member) for member in members(path))
    for _, found in groupby((pair for pair in named if pair[0] is not None), key=lambda pair: pair[0]):
        yield [member for _, member in found]


def _bytes_of(file: Any, member: Member) -> BytesIO:  # noqa: ANN401 - a raw file
    file.seek(member.begin)
    parts = bytearray()
    while len(parts) < member.size and (part := file.read(member.size - len(parts))):
        parts += part
    if len(parts) < member.size:
        raise EOFError(f"the archive ends within {member.name}")
    return BytesIO(parts)
