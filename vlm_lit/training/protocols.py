"""Protocols: what commands and callbacks ask of a module, so that a user's own is treated like ours.

Each names only what its asker uses. Attributes whose value needs a loaded model are properties of our modules, and
`isinstance` would read them: such ones stand in protocols that are asked of a loaded module alone.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal, Protocol, runtime_checkable

from lightning.pytorch.cli import OptimizerCallable
from peft import PeftModel
from torch import Tensor, nn

from vlm_lit.data.answers.blind import Blind
from vlm_lit.data.answers.judged_turns import JudgedTurns, TurnItems
from vlm_lit.data.answers.vocabulary import AnswerVocabulary
from vlm_lit.data.record_datamodule import ValidateBy
from vlm_lit.data.rows.conversation_encoder import ConversationEncoder
from vlm_lit.metrics.rules import Rule
from vlm_lit.models.families import Family
from vlm_lit.models.parts import PartRow, PartsSettings
from vlm_lit.objectives.preference_losses import PreferenceLossSettings
from vlm_lit.schema import EvaluationBatch, Prediction, TokenBatch
from vlm_lit.training.reference_store import ReferenceStore


@runtime_checkable
class Trains(Protocol):
    """A module with a loss that can be looked at, a micro-batch at a time."""

    def loss(self, batch: TokenBatch) -> Tensor:
        """The loss of a micro-batch, a sum (a scalar)."""


def has_loss(module: object) -> bool:
    """Whether a module is one that `inspect` and `verify` can look at."""
    return isinstance(module, Trains)


@runtime_checkable
class Predicts(Protocol):
    """A module that answers prompts."""

    def predictions(self, prompts: EvaluationBatch) -> list[Prediction]:
        """Answers to a batch of prompts, in the order they were asked for."""


@runtime_checkable
class Predicted(Protocol):
    """A module that has been evaluated: its answers of all ranks, each question once, and what they scored."""

    last_predictions: list[Prediction]
    last_metrics: dict[str, float]


@runtime_checkable
class AsksQuestions(Protocol):
    """A data module that says what an evaluation asks, and what it shows in the images' place."""

    blind: Blind | None
    judged_turns: JudgedTurns

    @property
    def datasets(self) -> Mapping[str, object]:
        """Its open splits."""

    def asked(self, split: str) -> TurnItems:
        """The conversations that an evaluation of a split asks for, in the file's order."""


@runtime_checkable
class Validated(AsksQuestions, Protocol):
    """The same, where a validation measures answers, the loss of the true ones, or both."""

    validate_by: ValidateBy


@runtime_checkable
class Encodes(Validated, Protocol):
    """The same, whose conversations are rows of tokens."""

    def asks(self, split: str) -> bool:
        """Whether the questions of a split are answered."""

    @property
    def encoder(self) -> ConversationEncoder:
        """What makes them."""


@runtime_checkable
class SharesRows(Protocol):
    """A data module whose questions about one image may share a row."""

    packing: bool

    @property
    def packs(self) -> bool:
        """Whether they do."""


@runtime_checkable
class ChoosesAnswers(Protocol):
    """A data module that says which answers there are to choose from."""

    most_words: int

    @property
    def vocabulary(self) -> AnswerVocabulary:
        """The answers, in the order of the head's rows."""


@runtime_checkable
class Judged(Protocol):
    """A module that says by which metrics its answers are judged, the leading one first."""

    def judged_by(self, *, one_reference: bool = False) -> list[Rule]:
        """The metrics' rules, where no question has more than one reference or where some may have."""


@runtime_checkable
class HasFigures(Protocol):
    """A module that logs more than a loss, of training and of a validation by loss; says what is better of each."""

    own_figures: Mapping[str, Literal["min", "max"] | None]


@runtime_checkable
class Prefers(Protocol):
    """A module that is trained on pairs of answers, and that may compare itself with a reference."""

    losses: list[PreferenceLossSettings]
    compares: bool
    reference_store: str | None

    def opened_store(self) -> ReferenceStore | None:
        """Where the reference's log-probabilities are kept, once the model is loaded; None where they are not."""


@runtime_checkable
class Tabulated(Protocol):
    """A module that says what each of its parts holds and trains."""

    def parts_table(self) -> list[PartRow]:
        """A row a part."""


@runtime_checkable
class Adapted(Protocol):
    """A module whose trained weights are kept as a PEFT adapter."""

    model: PeftModel | None
    loaded_step: int

    def fingerprint(self) -> dict[str, Any]:
        """What stands beside the adapter, so that whoever loads it can see what it belongs to."""


@runtime_checkable
class Towered(Protocol):
    """A module that is made from a checkpoint whose parts are known."""

    model_id: str
    revision: str | None
    parts: PartsSettings
    family: Family | None


@runtime_checkable
class Stepped(Towered, Protocol):
    """The same, with an optimizer that is made of groups, one a part."""

    learning_rate: float
    gradient_clip: float | None

    @property
    def optimizer(self) -> OptimizerCallable:
        """What makes the optimizer of its groups."""


class Loaded(Towered, Protocol):
    """The same with its model loaded."""

    @property
    def base(self) -> nn.Module:
        """The model without its PEFT shell."""
