"""Annotations of CVAT ("CVAT for images 1.1") as rows: one for each tag of a picture, its attributes as fields."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Final
from xml.parsers import expat

from vlm_lit.curation.source_rows import FileRow
from vlm_lit.errors import RecordError
from vlm_lit.files.open_text import open_bytes

_SHAPES: Final = ("box", "polygon", "polyline", "points", "ellipse", "cuboid", "mask", "skeleton")


def cvat_rows(path: Path) -> Iterator[FileRow]:
    """A row a tag: `image`, the tag's label as `tag`, and its attributes under their names.

    A picture without tags is an error, and so is a shape with attributes of its own: it is about a part of a picture.
    """
    reading = _Reading(path)
    try:
        with open_bytes(path) as file:
            reading.parser.ParseFile(file)
        if not reading.is_cvat:
            reading.add(1, reading.error("no annotations of CVAT", "Export them as CVAT for images 1.1."), ends=True)
    except (expat.ExpatError, RecordError) as error:
        remedy = "Nothing behind this place was read: export the annotations again."
        found = error if isinstance(error, RecordError) else reading.error(f"not XML: {error}", remedy)
        reading.add(reading.parser.CurrentLineNumber, found, ends=True)
    yield from reading.rows


class _Reading:
    """What has been read of a file so far."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.rows: list[FileRow] = []
        self.is_cvat = False
        self._image: dict[str, object] = {}
        self._tags = self._line = 0
        self._tag: dict[str, object] | None = None
        self._attribute: str | None = None
        self._text = ""
        self.parser = expat.ParserCreate()
        self.parser.StartElementHandler = self._begin
        self.parser.EndElementHandler = self._finish
        self.parser.CharacterDataHandler = self._words
        self.parser.EntityDeclHandler = self._refuse_entity

    def add(self, line: int, found: dict[str, object] | RecordError, *, ends: bool = False) -> None:
        """Note a row."""
        self.rows.append(FileRow(index=len(self.rows), line=line, found=found, ends=ends))

    def error(self, problem: str, remedy: str, code: str = "cvat.syntax") -> RecordError:
        """The error about this place of the file."""
        place = f"{len(self.rows)} (line {self.parser.CurrentLineNumber})"
        return RecordError(problem, remedy=remedy, file=self.path, record=place, code=code)

    def _begin(self, name: str, given: dict[str, str]) -> None:
        if name == "annotations":
            self.is_cvat = True
        elif name == "image":
            self._image, self._tags = {"image": given.get("name", "")}, 0
            self._line = self.parser.CurrentLineNumber
        elif name == "tag" or name in _SHAPES:
            self._tag = {**self._image, "tag": given.get("label", "")}
            self._line = self.parser.CurrentLineNumber
        elif name == "attribute":
            self._attribute, self._text = given.get("name", ""), ""

    def _words(self, text: str) -> None:
        self._text += text if self._attribute is not None else ""

    def _finish(self, name: str) -> None:
        if name == "attribute" and self._attribute is not None:
            if self._tag is not None:
                self._tag[self._attribute] = self._text or None
            self._attribute = None
        elif name == "tag" and self._tag is not None:
            self.add(self._line, self._tag)
            self._tag, self._tags = None, self._tags + 1
        elif name in _SHAPES and self._tag is not None:
            if len(self._tag) > 2:
                remedy = "Put question and answer on a tag, which is about the whole picture."
                self.add(self._line, self.error(f"a {name}, which is about a part of a picture", remedy, "cvat.shape"))
                self._tags += 1
            self._tag = None
        elif name == "image" and not self._tags:
            remedy = "Tag it in CVAT, or leave it out of the export."
            self.add(self._line, self.error(f"{self._image['image']!r} has no tag", remedy, "cvat.no_tag"))

    def _refuse_entity(self, *_: object) -> None:
        raise self.error("it declares entities, which can be made to fill the memory", "Take the declaration out.")
