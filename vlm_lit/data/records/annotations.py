"""Annotation files: answers kept apart from their questions, joined by `question_id`, as in VQA."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Final

from vlm_lit.data.conversations.refusals import refusal
from vlm_lit.data.records.text_files import iter_rows
from vlm_lit.errors import ConfigError, RecordError
from vlm_lit.files.pointers import LFS_PROBLEM, LFS_REMEDY, is_pointer_file
from vlm_lit.files.strict_json import whole_object
from vlm_lit.schema import Record

_KEY: Final = "question_id"
_COCO: Final = re.compile(r"(?:train|val|test)20\d\d")


class Annotations:
    """Answers by question.

    Args:
        path: a file as VQA publishes it, `{"annotations": [{"question_id", "answers", ...}]}`, or any file of records.

    Raises:
        RecordError: it cannot be read, or a question stands in it twice or has no id.
        ConfigError: there is no such file.
    """

    def __init__(self, path: Path) -> None:
        if not path.is_file():
            raise ConfigError(f"annotations is {path}; there is no such file. Correct the path.")
        if is_pointer_file(path):
            raise RecordError(LFS_PROBLEM, remedy=LFS_REMEDY, file=path, code="records.lfs_pointer")
        self.path = path
        self._of: dict[str, Mapping[str, object]] = {}
        for index, row in enumerate(iter_rows(path)):
            name = row.get(_KEY)
            if name is None or self._of.setdefault(str(name), row) is not row:
                problem = f"it has no {_KEY}" if name is None else f"the {_KEY} {name} stands there twice"
                remedy = "Give the annotations as they were published."
                raise RecordError(problem, remedy=remedy, file=path, record=str(index), code="annotations.id")

    def with_answers(self, record: Record) -> Record:
        """The record with the fields of its question's annotation; its own come first.

        Raises:
            RecordError: it has no `question_id`, or one without an annotation.
        """
        name = record.fields.get(_KEY)
        found = self._of.get(str(name)) if name is not None else None
        if found is None:
            problem = f"the {_KEY} {name} is not in {self.path}" if name is not None else f"it has no {_KEY}"
            remedy = "Give the questions and the annotations of one split, or correct the setting annotations."
            raise refusal(record, problem, remedy=remedy, code="annotations.missing")
        return replace(record, fields={**found, **record.fields})

    def image_name(self, root: Path) -> str | None:
        """How COCO names the questions' images, if the file says which part of COCO they are of."""
        whole = whole_object(self.path) if self.path.suffix == ".json" else None
        part = whole.get("data_subtype") if isinstance(whole, dict) else None
        if not isinstance(part, str) or not _COCO.fullmatch(part):
            return None
        name = f"COCO_{part}_{{image_id:012d}}.jpg"
        return f"{part}/{name}" if (root / part).is_dir() else name
