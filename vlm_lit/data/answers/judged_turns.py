"""The answers of a conversation that an evaluation asks for: every assistant turn, or the last alone."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Literal

from torch.utils.data import Dataset

from vlm_lit.data.conversations.conversations import is_blank
from vlm_lit.data.records.conversation_dataset import ConversationDataset
from vlm_lit.errors import RecordError
from vlm_lit.schema import Conversation, ImageSlot, Turn

JudgedTurns = Literal["every", "last"]


def asked_turns(turns: Sequence[Turn]) -> list[int]:
    """How many turns stand before each answer that may be asked for.

    Those are the assistant's turns, and where the user speaks last, the answer that is missing there.
    """
    places = [place for place, turn in enumerate(turns) if turn.role == "assistant"]
    return places if turns[-1].role == "assistant" else [*places, len(turns)]


def judged_turn(conversation: Conversation, number: int, judged: JudgedTurns = "every") -> Conversation:
    """The conversation up to its answer `number`, counted from 1, behind the true turns before it.

    A conversation with one answer stays as it is. Of several, each is an item of its own: its id is `<id>#<number>`
    where all of them are judged, it shows the images up to there, and its reference is the assistant's turn (for the
    last, the record's references). A turn that is not to be learned is no reference either: its item is asked and not
    judged. All items of a record are one cluster: where the record names no image, the `image_id` names the record.
    """
    places = asked_turns(conversation.turns)
    if len(places) == 1:
        return conversation
    name = f"{conversation.id}#{number}" if judged == "every" else conversation.id
    cluster = conversation.image_id or f"record {conversation.id}"
    whole = replace(conversation, id=name, image_id=cluster, turn=number)
    if number == len(places):
        return whole
    turns = conversation.turns[: places[number - 1] + 1]
    shown = sum(isinstance(part, ImageSlot) for turn in turns for part in turn.content)
    answer = turns[-1]
    return replace(
        whole,
        turns=turns,
        images=conversation.images[:shown],
        references=(answer.text,) if answer.supervised and not is_blank(answer.text) else (),
        choices=(),
        continues=True,
    )


class TurnItems(Dataset[Conversation]):
    """What an evaluation asks: a data set's conversations, an item for each answer that is judged.

    Args:
        conversations: the data set.
        judged: `every` assistant turn, or the `last`.

    Raises:
        RecordError: an item would have the id of another record.
    """

    def __init__(self, conversations: ConversationDataset, judged: JudgedTurns) -> None:
        self.conversations, self.judged = conversations, judged
        counts = conversations.answers
        firsts = [1 if judged == "every" else n for n in counts]
        self.places = [(i, number) for i, n in enumerate(counts) for number in range(firsts[i], n + 1)]
        self.several = any(n > 1 for n in counts)
        """Whether any record has several answers."""
        keys = conversations.image_keys
        self.image_keys = None if keys is None else [keys[i] for i, _ in self.places]
        """What names the images of each item's record, so that the items of one record are answered together."""
        sizes = conversations.sizes
        self.sizes = None if sizes is None else [sizes[i] for i, _ in self.places]
        """How long each item's record is."""
        if judged == "every":
            self._refuse_taken_ids(counts)

    def __len__(self) -> int:
        return len(self.places)

    def __getitem__(self, index: int) -> Conversation:
        place, number = self.places[index]
        return judged_turn(self.conversations[place], number, self.judged)

    def _refuse_taken_ids(self, counts: Sequence[int]) -> None:
        ids = self.conversations.ids or []
        taken = {name for name in ids if "#" in name}
        for place, n in enumerate(counts if taken else ()):
            for number in range(1, n + 1) if n > 1 else ():
                if f"{ids[place]}#{number}" in taken:
                    conversation = self.conversations[place]
                    raise RecordError(
                        f"its answer {number} is judged as {ids[place]}#{number}, which is another record's id",
                        remedy="Rename one of them, or set data.init_args.judged_turns to last.",
                        file=conversation.file,
                        record=conversation.record,
                        code="conversation.duplicate_id",
                    )
