"""Certificate of a run: a JSON file of digests, by which somebody else can tell whether he has the same run."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields
from itertools import pairwise
from pathlib import Path
from typing import Final

from vlm_lit.errors import ConfigError, RecordError
from vlm_lit.files.strict_json import read_json
from vlm_lit.settings import as_settings

FILE: Final = "certificate.json"
VERSION: Final = 1
_REMEDY: Final = "Use a file that certify wrote."


@dataclass(frozen=True, kw_only=True)
class SplitDigests:
    """A split's records in their order, and the pictures that they show.

    Args:
        ids: of each record, its id.
        words: of each record, the digest of what it says.
        pictures_of: of each record, the places of its pictures in `pictures`.
        pictures: of each picture, the digest of its bytes.
        names: of each picture, its path from the folder that holds them all.
    """

    ids: list[str]
    words: list[str]
    pictures_of: list[list[int]]
    pictures: list[str]
    names: list[str]

    def __post_init__(self) -> None:
        _check_lengths("a record", self.ids, self.words, self.pictures_of)
        _check_lengths("a picture", self.pictures, self.names)
        if not all(0 <= place < len(self.pictures) for places in self.pictures_of for place in places):
            raise ConfigError(f"a record shows a picture that is not listed. {_REMEDY}")


@dataclass(frozen=True, kw_only=True)
class WeightDigests:
    """The trained weights at several steps of a run.

    Args:
        names: the trained parameters.
        steps: the optimizer steps behind each kept checkpoint.
        tensors: of each kept checkpoint, a digest for each parameter.
        optimizers: of each kept checkpoint, the digest of its optimizer's state.
        adapter: digest of the final adapter's file; null where there is none.
        adapter_step: the optimizer steps behind it.
    """

    names: list[str]
    steps: list[int]
    tensors: list[list[str]]
    optimizers: list[str]
    adapter: str | None = None
    adapter_step: int | None = None

    def __post_init__(self) -> None:
        if not all(0 < step < later for step, later in pairwise([*self.steps, 2**63])):
            raise ConfigError(f"the steps of the weights are no rising numbers from 1 up. {_REMEDY}")
        _check_lengths("a step", self.steps, self.tensors, self.optimizers)
        for tensors in self.tensors:
            _check_lengths("a parameter", self.names, tensors)

    def at(self, step: int) -> list[str] | None:
        """The digests of the weights after a step; None where no checkpoint of it was kept."""
        return self.tensors[self.steps.index(step)] if step in self.steps else None


@dataclass(frozen=True, kw_only=True)
class Certificate:
    """What a run was made of, and what came of it. No path is in anything that is compared.

    Args:
        version: of this form.
        config: the run's whole config as YAML, to be able to do it again. It is not compared.
        settings: the settings that change a run's numbers, by their dotted names.
        course: how long the run is, and what else its data module says.
        train, val: the records and pictures of each split.
        base: the base's weights and settings, those of the adapter that the run began from among them.
        processor: the processor's settings, the chat template and the tokenizer.
        code: the files of this package that made the run; only their one digest where they are not here any more.
        versions: the libraries that made the run; empty where that was not noted.
        machine: what computed the run; empty where that was not noted.
        weights: the trained weights at several steps.
        losses: the training loss by the steps done by then, as far as it was logged.
    """

    version: int
    config: str
    settings: dict[str, object]
    course: dict[str, object]
    train: SplitDigests
    val: SplitDigests | None
    base: dict[str, object]
    processor: dict[str, object]
    code: dict[str, str]
    versions: dict[str, str]
    machine: dict[str, object]
    weights: WeightDigests
    losses: dict[str, float]

    def __post_init__(self) -> None:
        if not all(step.isascii() and step.isdecimal() for step in self.losses):
            raise ConfigError(f"losses has a step that is no whole number. {_REMEDY}")

    @property
    def logged(self) -> dict[int, float]:
        """The training loss by step."""
        return {int(step): loss for step, loss in self.losses.items()}


def _check_lengths(what: str, *columns: Sequence[object]) -> None:
    if len(set(map(len, columns))) > 1:
        raise ConfigError(f"there is not one entry for each {what.split()[-1]} in every list. {_REMEDY}")


def as_json(certificate: Certificate) -> str:
    """The file's text: a section a line."""
    sections = asdict(certificate).items()
    return "{\n" + ",\n".join(f"{json.dumps(name)}: {json.dumps(section)}" for name, section in sections) + "\n}\n"


def read_certificate(path: Path) -> Certificate:
    """The certificate in a file, or in a run directory.

    Raises:
        ConfigError: it cannot be read, is of another version, or holds what no certificate does.
    """
    path = path / FILE if path.is_dir() else path
    try:
        found = read_json(path, remedy=_REMEDY)
    except RecordError as error:
        raise ConfigError(f"There is no certificate to check: {error}") from error
    if not isinstance(found, dict) or "version" not in found:
        raise ConfigError(f"{path} is no certificate. {_REMEDY}")
    if found["version"] != VERSION or isinstance(found["version"], bool):
        raise ConfigError(
            f"{path} is a certificate of version {found['version']!r:.40}, and this program reads version {VERSION}. "
            "Use the version of vlm_lit that it names, or certify the run again."
        )
    missing = [field.name for field in fields(Certificate) if field.name not in found]
    if missing:
        raise ConfigError(f"{path} lacks {', '.join(missing)}. {_REMEDY}")
    return as_settings(Certificate, found, str(path))
