"""The nouns of the package, in the order they flow from stage to stage.

    Record -> Conversation (of Turns) -> TokenBatch -> Prediction

No heavy import lives here: torch and PIL appear in annotations only, so that `--help` stays fast.
"""

from __future__ import annotations

import hashlib
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Final, Generic, Literal, Protocol, Self, TypeAlias

from typing_extensions import TypeVar

if TYPE_CHECKING:
    from PIL import Image
    from torch import Tensor

IGNORE_INDEX: Final = -100
"""Label of a position that no loss may see. The value is the one `torch.nn.functional.cross_entropy` ignores."""

Role = Literal["system", "user", "assistant"]


@dataclass(frozen=True)
class ImageSlot:
    """The place in a turn's content where the conversation's next image goes."""


IMAGE: Final = ImageSlot()

Part: TypeAlias = str | ImageSlot


@dataclass(frozen=True, kw_only=True)
class ImageRef:
    """An image not yet decoded: exactly one of `path` (a file), `data` (encoded bytes), `pixels` (decoded)."""

    path: Path | None = None
    data: bytes | None = None
    pixels: Image.Image | None = None

    @cached_property
    def digest(self) -> str | None:
        """SHA-256 of the encoded bytes that the record holds, in hexadecimal; None where it holds none."""
        return hashlib.sha256(self.data).hexdigest() if self.data is not None else None

    def __str__(self) -> str:
        return str(self.path) if self.path is not None else "<image held in the record>"


@dataclass(frozen=True, kw_only=True)
class Record:
    """One row as the user's file has it.

    `fields` are the row's own keys. `file` and `index` (counted from 0) say where it stands.
    `image_root` is the folder that the row's relative image paths start from. `part` names its file where there are
    several: it stands before the index in the id of a record that has none.
    """

    file: Path | str
    index: int
    fields: Mapping[str, object]
    image_root: Path | None = None
    part: str = ""

    @property
    def name(self) -> str:
        """How an error message calls this record: its index, with its id where it has one."""
        for key in ("id", "question_id"):
            if key in self.fields:
                return f"{self.index} (id {self.fields[key]!r})"
        return str(self.index)


@dataclass(frozen=True, kw_only=True)
class Turn:
    """What one party says: text parts and image slots in reading order.

    `supervised` is false for an assistant's turn that the record says is not to be learned from.
    """

    role: Role
    content: tuple[Part, ...]
    supervised: bool = True

    @property
    def text(self) -> str:
        """The words alone, without the images."""
        return "".join(part for part in self.content if isinstance(part, str))


@dataclass(frozen=True, kw_only=True)
class Note:
    """Something about how a record was read that its owner should know; counted over a data set.

    `unused` names a key that nothing was made of, `lost` one of these whose value looks like something to train on,
    `text` words that stay words although they look like something else, `letters` a string of an answer that the
    checkpoint has as a token, and whose letters are learned.
    """

    kind: Literal["unused", "lost", "text", "letters"]
    about: str


@dataclass(frozen=True, kw_only=True)
class Conversation:
    """A record in the one form that everything after `data/conversations.py` understands.

    `images` are in the order of the image slots. `references` are the accepted answers to the last assistant
    turn (VQA v2 has ten), empty where there is none. `groups` name the breakdowns its score enters, for
    example `{"answer_type": "number"}`. `image_id` clusters questions about one image. `choices` are the texts of the
    options A, B, ... of a multiple choice question, empty for any other. `turn` is which of a record's several answers
    an evaluation asks for, counted from 1; None where a record has one, or is learned whole. `continues` says that the
    record goes on behind it. `notes` say what of the record was not used.
    """

    id: str
    turns: tuple[Turn, ...]
    images: tuple[ImageRef, ...]
    references: tuple[str, ...] = ()
    image_id: str | None = None
    groups: Mapping[str, str] = field(default_factory=dict)
    choices: tuple[str, ...] = ()
    file: Path | str = ""
    record: str = ""
    turn: int | None = None
    continues: bool = False
    notes: tuple[Note, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Preference:
    """A prompt with two answers of which one is preferred.

    `chosen` and `rejected` show the same images behind the same turns and differ in the last, an assistant's, the only
    one that is learned from. `chosen` has the references, groups and image id of the record.
    """

    id: str
    images: tuple[ImageRef, ...]
    chosen: Conversation
    rejected: Conversation
    file: Path | str = ""
    record: str = ""
    notes: tuple[Note, ...] = ()

    @property
    def sides(self) -> tuple[Conversation, Conversation]:
        """The chosen and the rejected conversation, with ids that messages can tell apart."""
        return replace(self.chosen, id=f"{self.id}/chosen"), replace(self.rejected, id=f"{self.id}/rejected")


@dataclass(frozen=True, kw_only=True)
class Shortcuts:
    """What a run may do the short way, with the same result: a fact of its checkpoint and module.

    `unpackable` says why questions about one image cannot share a row; None where they can. `answers_from_features`
    says whether answers can be generated from kept vision features.
    """

    unpackable: str | None = None
    answers_from_features: bool = True


class DataItem(Protocol):
    """What every item of a data set has, a `Conversation` or another frozen dataclass: what the data module goes by."""

    __dataclass_fields__: ClassVar[dict[str, Any]]

    @property
    def id(self) -> str:
        """What names it; no other item has it."""

    @property
    def images(self) -> tuple[ImageRef, ...]:
        """Its images, not decoded."""

    @property
    def file(self) -> Path | str:
        """The file it was read from."""

    @property
    def record(self) -> str:
        """How an error message calls its record."""

    @property
    def notes(self) -> tuple[Note, ...]:
        """What of the record was not used."""


class Pinnable:
    """What torch's data loader can put into page-locked memory, from where a GPU copies while it computes.

    The loader knows tensors, lists and mappings, and leaves any other object alone that has no such method.
    """

    def pin_memory(self) -> Self:
        """Itself, every tensor in it page-locked."""
        for name, value in vars(self).items():
            setattr(self, name, mapped(value, lambda held: held.pin_memory()))
        return self


def mapped(value: Any, change: Callable[[Any], Any]) -> Any:  # noqa: ANN401 - any field of a batch
    """A field of a batch with every tensor in it changed, and every batch in it, which are told by `pin_memory`."""
    if isinstance(value, dict):
        return {name: mapped(one, change) for name, one in value.items()}
    if isinstance(value, list | tuple):
        return type(value)(mapped(one, change) for one in value)
    return change(value) if hasattr(value, "pin_memory") else value


@dataclass(kw_only=True)
class MicroBatch(Pinnable, ABC):
    """What every kind of micro-batch has: the model's inputs, and whose they are. B = rows.

    `inputs` are the model's keyword arguments, each [B, ...] or as the family's processor makes it. `ids` name the
    items, row by row. Its tensors, these and those of the kinds below, are moved by `data/rows/device.py`.
    """

    inputs: dict[str, Tensor]
    ids: list[str]

    @property
    @abstractmethod
    def weight(self) -> int:
        """What a loss that is a sum over this micro-batch is divided by."""

    @property
    def samples(self) -> int:
        """How many items of the data it holds; a pair of answers is one."""
        return len(self.ids)


@dataclass(kw_only=True)
class TokenBatch(MicroBatch):
    """One micro-batch of conversations, padded. B = rows, L = tokens.

    `inputs` are the model's keyword arguments as the processor made them: `input_ids` [B, L] int64,
    `attention_mask` [B, L] int64, and the family's pixel tensors. `labels` [B, L] int64 hold IGNORE_INDEX
    wherever nothing is learned. `ids` are the conversations' ids, row by row, and `lengths` their tokens, each counted
    as if it stood alone. `segments` [B, L] int64, where conversations share rows: 0 in what they share and in padding,
    1, 2, ... in what is each one's own. `features` stand in for pixels where they are cached: for each image in the
    order of the rows, what the vision tower hands to each of the projector's modules.
    """

    labels: Tensor
    lengths: list[int] = field(default_factory=list)
    segments: Tensor | None = None
    features: list[tuple[Tensor, ...]] | None = None

    @property
    def supervised_tokens(self) -> int:
        """Number of positions with a label that some earlier position can predict."""
        return int((self.labels[:, 1:] != IGNORE_INDEX).sum())

    @property
    def weight(self) -> int:
        """The supervised tokens: a summed cross-entropy divided by them is a mean."""
        return self.supervised_tokens


@dataclass(kw_only=True)
class ClassBatch(MicroBatch):
    """One micro-batch of questions that are answered from a vocabulary of N answers. B = rows, one a question.

    `inputs` are the model's keyword arguments, `targets` [B, N] float32 how right each answer is, in [0, 1].
    """

    targets: Tensor

    @property
    def weight(self) -> int:
        """The questions: a summed loss divided by them is a mean."""
        return len(self.ids)


Micro = TypeVar("Micro", bound=MicroBatch, default=TokenBatch)


@dataclass(kw_only=True)
class StepBatch(Pinnable, Generic[Micro]):
    """What one optimizer step sees on one rank: micro-batches of one kind, of conversations where none is named.

    `weight` is that of its micro-batches together, which the step's loss is divided by. `rows` is the most rows its
    micro-batches could have had when it was made. `dropped` and `changed` name the conversations that the over-length
    policy left out, or trimmed or shrank.
    """

    micro_batches: list[Micro] = field(default_factory=list)
    weight: int = 0
    rows: int = 0
    dropped: list[str] = field(default_factory=list)
    changed: list[str] = field(default_factory=list)

    @property
    def ids(self) -> list[str]:
        """The conversations of the step batch, in the order of its rows."""
        return [name for batch in self.micro_batches for name in batch.ids]

    @property
    def samples(self) -> int:
        """How many items of the data it holds."""
        return sum(batch.samples for batch in self.micro_batches)

    @property
    def supervised_tokens(self) -> int:
        """The weight of a step batch of conversations, which counts the positions that their loss looks at."""
        return self.weight


@dataclass(kw_only=True)
class PromptBatch(Pinnable):
    """Prompts to answer: `inputs` and `features` as in `TokenBatch`, and the conversations they are made of.

    `segments` [B, L] as in `TokenBatch`, where rows are padded on the right and hold a question each or several; their
    conversations stand in the order of rows, then of segments. None where rows are padded on the left, one a question.
    """

    inputs: dict[str, Tensor]
    conversations: list[Conversation]
    segments: Tensor | None = None
    features: list[tuple[Tensor, ...]] | None = None


@dataclass(kw_only=True)
class EvaluationBatch(Pinnable):
    """The prompts that are answered in one evaluation step, in batches whose rows have equally many images.

    `ids` are the conversations in the order they were asked for. `supervised` are the same conversations with their
    answers, as training would see them, where a validation wants their loss; `unanswered` names those that have none.
    """

    batches: list[PromptBatch]
    ids: list[str]
    supervised: StepBatch[Any] | None = None
    unanswered: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class Reply:
    """What a model replies to a prompt, stripped of blanks at both ends.

    `confidence` is the chosen answer's share in the softmax over the log-likelihoods (or, with `answer_score: mean`,
    over their means per token) of all answers it was chosen from; of a classifier its probability, by itself where the
    objective is binary. None for what the model says by itself. `unfinished` says that it was cut by the limit of
    tokens, before an end of turn.
    """

    text: str
    confidence: float | None = None
    unfinished: bool = False


@dataclass(frozen=True, kw_only=True)
class Prediction:
    """One answer and how it was judged; a line of `predictions.jsonl`, which has `choices` only where there are any.

    `score` is a fraction in [0, 1]. `confidence`, which the line has only where there is one, is that of its
    `Reply`; None where the answer was generated. `turn`, which the line
    has only where there is one, is which of its record's several answers this is, counted from 1. `unfinished`, which
    the line has only where it is true, says that the answer was cut by `max_new_tokens`.
    """

    id: str
    image: str | None
    image_id: str | None
    question: str
    references: tuple[str, ...]
    prediction: str
    score: float | None
    groups: Mapping[str, str]
    choices: tuple[str, ...] = ()
    confidence: float | None = None
    turn: int | None = None
    unfinished: bool = False
