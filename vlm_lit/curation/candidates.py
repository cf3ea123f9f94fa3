"""Rows that may be kept: each as the line it would be written as, with its pictures and what it asks and answers."""

from __future__ import annotations

import hashlib
import json
import math
import re
import unicodedata
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

from vlm_lit.curation.columns import Columns
from vlm_lit.curation.image_finder import FoundFile, ImageFinder
from vlm_lit.curation.row_pictures import with_pictures
from vlm_lit.curation.settings import CuratedSource
from vlm_lit.curation.source_files import said_split
from vlm_lit.curation.source_rows import SourceRow
from vlm_lit.data.conversations.choices import with_lettered_choices
from vlm_lit.data.conversations.conversations import to_conversation
from vlm_lit.data.conversations.refusals import empty, refusal, shown
from vlm_lit.data.images.image_paths import ImageProblem
from vlm_lit.data.images.images import to_image_ref
from vlm_lit.data.records.annotations import Annotations
from vlm_lit.data.records.image_names import image_name_fields, with_named_image
from vlm_lit.schema import Conversation, Record
from vlm_lit.vqa.normalize import vqa_normalise, without_punctuation

PICTURES: Final = "images"
HELD: Final = f"{PICTURES}/held"
_HYPHEN: Final = re.compile(r"(?<=[^\W\d_]) ?-+ ?(?=[^\W\d_])")
_SIGN: Final = re.compile(
    r"([-/=+\\_<>@]"
    r"|(?<=[0-9]),(?=[0-9])(?![0-9]{3}(?![0-9]))"
    r"|(?<=[^\s\"'`(\[{])[(\[{]|[?!)\]}](?![.,;?!)\]}\"'`]*(?:\s|$)))"
)
"""What `counted_answer` says of signs, once no hyphen is left between two letters."""
_ENDS_OF: Final = {b"\xff\xd8": ".jpg", b"\x89P": ".png", b"GI": ".gif", b"BM": ".bmp", b"RI": ".webp"}


@dataclass(frozen=True, kw_only=True)
class PictureFile:
    """A picture that rows show: the file, and its path in the written folder."""

    file: Path
    name: str


@dataclass(frozen=True, kw_only=True)
class Candidate:
    """A row that training would take, as far as its words go.

    `line` is its JSON, `id` its own name, None where it has none. `pictures` are positions among all picture files.
    `asked` is what stands before its last answer, `answer` the last answer and `references` all that are accepted,
    for comparing only: by `counted_answer`.
    """

    row: SourceRow
    line: bytes
    id: str | None
    pictures: tuple[int, ...]
    asked: str
    question: str
    answer: str
    said: str
    references: tuple[str, ...]


class CandidateMaker:
    """What makes candidates of one curation's rows.

    Args:
        finder: finds picture files.
        staging: folder that is written; pictures that rows hold are put there.
        ignore_keys: keys that are left out of rows.
        by_source: whether a row stays on the split that its source says, so that it has to be understood.
    """

    def __init__(self, finder: ImageFinder, staging: Path, ignore_keys: Sequence[str], *, by_source: bool) -> None:
        self.finder, self.staging, self.ignore_keys, self.by_source = finder, staging, ignore_keys, by_source
        self.pictures: list[PictureFile] = []
        self.folders: dict[Path, str] = {}
        """The folders that pictures were found in, and their names in the written folder."""
        self.changes: dict[str, int] = {}
        """How many paths had to be changed, by what was changed."""
        self.splits: dict[str, int] = {}
        """How many rows say a split of their own, by their word for it."""
        self._places: dict[str, int] = {}

    def candidate(self, row: SourceRow, source: PreparedSource, shown: list[int]) -> Candidate:
        """The row as a candidate.

        Args:
            row: as it was read.
            source: how its source's rows are read.
            shown: takes its pictures, also where the row is refused later.

        Raises:
            RecordError: training would not take it.
        """
        record = source.record(row)
        fields = with_pictures(record, lambda value: self._placed(record, row, value, shown))
        made = Record(file=row.source, index=row.index, fields=fields, image_root=self.staging)
        talk = to_conversation(made, requires_answer=True, ignore_keys=self.ignore_keys)
        self._check_pictures(made, talk)
        for key in self.ignore_keys:
            fields.pop(key, None)
        split = self._own_split(made, fields)
        asked = _asked(talk)
        return Candidate(
            row=replace(row, split=split or row.split),
            line=_line(fields),
            id=_own_id(fields),
            pictures=tuple(dict.fromkeys(shown)),
            asked=_key(asked),
            question=asked.strip(),
            answer=counted_answer(talk.turns[-1].text),
            said=talk.turns[-1].text,
            references=tuple(sorted(map(counted_answer, talk.references))),
        )

    def _own_split(self, record: Record, fields: dict[str, object]) -> str | None:
        """The split that the row itself says. The field is taken out of it, unless it means something else."""
        word = fields.get("split")
        split = said_split(word)
        if split is None and not empty(word):
            if self.by_source:
                problem = f"its split is {shown(word)}, which means neither train nor val nor test"
                remedy = "Write one of these. --ignore_keys split leaves it out: the name of its file says the split."
                raise refusal(record, problem, remedy=remedy, code="split")
            return None
        fields.pop("split", None)
        if split is not None:
            self.splits[str(word)] = self.splits.get(str(word), 0) + 1
        return split

    def _placed(self, record: Record, row: SourceRow, value: object, shown: list[int]) -> str:
        try:
            found = self._file(value, row.folder)
        except ImageProblem as problem:
            raise refusal(record, problem.problem, remedy=problem.remedy, code=problem.code) from None
        if found.name not in self._places:
            self._places[found.name] = len(self.pictures)
            self.pictures.append(found)
        shown.append(self._places[found.name])
        return found.name

    def _file(self, value: object, own: Path) -> PictureFile:
        if isinstance(value, Mapping):
            value = next((value[key] for key in ("bytes", "path", "url") if value.get(key) is not None), None)
        if isinstance(value, str) and not _holds_bytes(value):
            found = self.finder.find(value, own)
            for change in found.changes:
                self.changes[change] = self.changes.get(change, 0) + 1
            return PictureFile(file=found.path, name=f"{PICTURES}/{self._folder(found)}/{found.name}")
        ref = to_image_ref(value, None)
        if ref.data is None:
            remedy = "Give a path, or the bytes of an image file."
            raise ImageProblem(f"a picture cannot be a {type(value).__name__}", remedy=remedy, code="image.type")
        return self._written(ref.data)

    def _written(self, data: bytes) -> PictureFile:
        """A file of the bytes that a row holds."""
        name = f"{HELD}/{hashlib.sha256(data).hexdigest()[:32]}{_ENDS_OF.get(data[:2], '.img')}"
        file = self.staging / name
        if name not in self._places:
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_bytes(data)
        return PictureFile(file=file, name=name)

    def _folder(self, found: FoundFile) -> str:
        if found.folder not in self.folders:
            taken = {"held", *self.folders.values()}
            name = found.folder.name or "root"
            k = 1
            while (new := name if k == 1 else f"{name}-{k}") in taken:
                k += 1
            self.folders[found.folder] = new
        return self.folders[found.folder]

    def _check_pictures(self, record: Record, talk: Conversation) -> None:
        """Refuse a row without a picture, or with one that stands where no picture was looked for."""
        if not talk.images:
            remedy = "Name its picture under image, or by --columns image=..."
            raise refusal(record, "it has no picture", remedy=remedy, code="no_image")
        for ref in talk.images:
            name = ref.path.relative_to(self.staging).as_posix() if ref.path is not None else ""
            if name not in self._places:
                remedy = "Name it under image or images, and write <image> at its place."
                raise refusal(
                    record, f"a picture is named within its words: {name}", remedy=remedy, code="image_in_text"
                )


class PreparedSource:
    """How one source's rows become records under our names.

    Args:
        source: its settings.
        columns: field names for every source, which its own come before.
        images: the folder that says how COCO's pictures are called, where annotations do.

    Raises:
        ConfigError: a template or an annotation file that cannot be used.
    """

    def __init__(self, source: CuratedSource, columns: Columns, images: Path) -> None:
        self.source, self.columns = source, columns
        self.own = Columns(source.columns or {}, f"columns of {source.path}")
        self.answers = Annotations(Path(source.annotations).expanduser()) if source.annotations else None
        self.image_name = source.image_name
        if self.image_name is None and self.answers is not None:
            self.image_name = self.answers.image_name(images)
        if self.image_name is not None:
            image_name_fields(self.image_name)

    def record(self, row: SourceRow) -> Record:
        """The row's record.

        Raises:
            RecordError: it could not be read, or its answers or its picture's name are not there.
        """
        if row.problem is not None:
            raise row.problem
        assert row.fields is not None
        fields = self.columns.named(self.own.named(row.fields))
        record = Record(file=row.source, index=row.index, fields=fields, image_root=row.folder)
        if self.answers is not None:
            record = self.answers.with_answers(record)
        if self.image_name is not None:
            record = with_named_image(record, self.image_name)
        return with_lettered_choices(record)


def _holds_bytes(text: str) -> bool:
    """Whether a picture's text is a data URI or base64; any other is a path."""
    if text[:5].lower() == "data:":
        return True
    from vlm_lit.data.images.base64_images import bare_bytes

    return bare_bytes(text) is not None


def _asked(talk: Conversation) -> str:
    """What stands before the last answer, the options among it."""
    before = [turn.text for turn in talk.turns[:-1]]
    return "\n".join([*before, *talk.choices])


def _key(text: str) -> str:
    """A question as it is compared with others: without regard to capitals, blanks and the mark at its end."""
    return " ".join(unicodedata.normalize("NFKC", text).casefold().split()).rstrip("?!. ")


def counted_answer(text: str) -> str:
    """An answer as it is counted: two answers are one where this is the same.

    It is what the VQA evaluation compares, with the signs that the evaluation deletes: `-5` is not `5`, nor `C++` `C`,
    nor `1-0` `1 0`. Signs are `/ = + \\ _ < > @`, a hyphen that does not stand between two letters, a comma within a
    number that does not set thousands apart, and a bracket, `?` or `!` within a word. What stands around words or
    ends them is none: `Yes.` is `yes`, `(red)` is `red`, `t-shirt` is `t shirt`, `1,000` is `1000`. Blanks beside
    signs do not count. What the evaluation leaves nothing of is counted in small letters.
    """
    flat = " ".join(unicodedata.normalize("NFKC", text).split())
    parts = _SIGN.split(_HYPHEN.sub(" ", flat))
    return "".join(part if k % 2 else _normal(part) for k, part in enumerate(parts)) or flat.lower()


def _normal(words: str) -> str:
    """What stands between signs, normalised; a letter is no article where nothing but it stands there, as in `A+`."""
    return vqa_normalise(words) or " ".join(without_punctuation(words).lower().split())


def _line(fields: Mapping[str, object]) -> bytes:
    try:
        return json.dumps(fields, ensure_ascii=False, allow_nan=False, default=str).encode()
    except ValueError:  # a table's NaN is an empty cell
        return json.dumps(_without_nan(fields), ensure_ascii=False, default=str).encode()


def _without_nan(value: object) -> object:
    if isinstance(value, Mapping):
        return {key: _without_nan(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [_without_nan(inner) for inner in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _own_id(fields: Mapping[str, object]) -> str | None:
    found = next((fields[key] for key in ("id", "question_id") if fields.get(key) is not None), None)
    return None if found is None else str(found)


def made_id(digests: Sequence[str], asked: str) -> str:
    """An id for a row that has none: it follows from its pictures and its question, so it stays when rows are added."""
    return f"{digests[0][:12]}-{hashlib.sha256(asked.encode()).hexdigest()[:8]}"
