"""Examination of records: each is read, turned into a conversation, rendered and tokenized, without its images."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field

from vlm_lit.data.answers.judged_turns import JudgedTurns, asked_turns, judged_turn
from vlm_lit.data.conversations.conversations import can_be_learned
from vlm_lit.data.images.images import naming
from vlm_lit.data.images.whole_pictures import Depth, Size, examine
from vlm_lit.data.records.bad_records import BadRecord
from vlm_lit.data.records.preference_dataset import CheckedDataset
from vlm_lit.data.rows.conversation_encoder import TextLengths
from vlm_lit.data.rows.encoder_choice import spelled_tokens
from vlm_lit.data.rows.over_length import OverLength
from vlm_lit.data.rows.packing import image_key
from vlm_lit.errors import RecordError
from vlm_lit.schema import Conversation, Note, Preference


@dataclass(frozen=True, kw_only=True)
class Uses:
    """What a run makes of the records of a split.

    Args:
        learns: whether they are trained on, or their loss is measured.
        asks: whether they are answered.
        judged: which of a record's several answers are asked for.
        over_length: what happens to a conversation that is too long.
        images: how images are looked at; None for not at all.
    """

    learns: bool
    asks: bool
    judged: JudgedTurns = "every"
    over_length: OverLength = "error"
    images: Depth | None = "header"


@dataclass
class Seen:
    """What is kept of neighbouring records once they were examined, item by item.

    `keys` and `files` are of the images: what names them all, and the file of each (None for one that a record holds).
    A record that cannot be used has an empty id, and its reason in `bad`. `longest` are the tokens of its words, where
    the run would be stopped by too many; else 0. `words` are the tokens of all its text in any case, those of both
    answers of a pair, and `held` the sizes of the images that the record itself holds, None for each of the others.
    """

    ids: list[str] = field(default_factory=list)
    answers: list[int] = field(default_factory=list)
    keys: list[str | None] = field(default_factory=list)
    files: list[tuple[str | None, ...]] = field(default_factory=list)
    longest: list[int] = field(default_factory=list)
    words: list[int] = field(default_factory=list)
    held: list[tuple[Size | None, ...]] = field(default_factory=list)
    notes: Counter[Note] = field(default_factory=Counter)
    bad: list[BadRecord] = field(default_factory=list)

    def add(self, item: Conversation | Preference | None) -> None:
        """Keep what later stages ask for; of a record that cannot be used, that it is there."""
        self.ids.append(item.id if item is not None else "")
        self.answers.append(sum(t.role == "user" for t in _asked(item).turns) if item is not None else 0)
        self.keys.append(image_key(item) if item is not None else None)
        images = item.images if item is not None else ()
        self.files.append(tuple(None if ref.path is None else str(ref.path) for ref in images))
        self.notes.update(set(item.notes) if item is not None else ())


class Examiner:
    """Examines a data set's records.

    Args:
        dataset: the data set.
        encoder: tells how long the text of its conversations is.
        uses: what is made of them.
    """

    def __init__(self, dataset: CheckedDataset, encoder: TextLengths, uses: Uses) -> None:
        self.dataset, self.encoder, self.uses = dataset, encoder, uses

    def __call__(self, rows: range) -> Seen:
        """Examine some neighbouring records."""
        seen, items = Seen(), dict[int, Conversation | Preference]()
        for index in rows:
            try:
                item = self.dataset.reading(self.dataset.records[index])
                held = self._held_images(item)
            except RecordError as error:
                seen.add(None)
                seen.held.append(())
                seen.bad.append(BadRecord.of(index, error))
                continue
            seen.add(item)
            seen.notes.update(self._letters(item))
            seen.held.append(held)
            items[index] = item
        longest, words = dict.fromkeys(rows, 0), dict.fromkeys(rows, 0)
        errors = dict(self._errors(items, longest, words))
        seen.longest, seen.words = list(longest.values()), list(words.values())
        seen.bad += [BadRecord.of(index, error) for index, error in errors.items()]
        return seen

    def _letters(self, item: Conversation | Preference) -> Iterator[Note]:
        """A note for each token of the checkpoint that an answer spells, where answers are learned."""
        sides = item.sides if isinstance(item, Preference) else (item,)
        turns = [turn for side in sides for turn in side.turns] if self.uses.learns else ()
        yield from (Note(kind="letters", about=token) for token in sorted(spelled_tokens(self.encoder, turns)))

    def _held_images(self, item: Conversation | Preference) -> tuple[Size | None, ...]:
        """Look at the images that the record itself holds; many records may name one file, which is looked at once."""
        sizes: list[Size | None] = [None] * len(item.images)
        for position, ref in enumerate(item.images if self.uses.images is not None else ()):
            if ref.path is None and self.uses.images is not None:
                with naming(item, position):
                    sizes[position] = examine(ref, self.uses.images)
        return tuple(sizes)

    def _errors(
        self, items: dict[int, Conversation | Preference], longest: dict[int, int], words: dict[int, int]
    ) -> Iterator[tuple[int, RecordError]]:
        """What is wrong with the text of items, the first thing of each; `longest` and `words` take their lengths."""
        found: set[int] = set()
        for for_generation in (False, True):
            views = [
                (index, view)
                for index, item in items.items()
                if index not in found
                for view in self._views(item, for_generation=for_generation)
            ]
            lengths = self.encoder.text_lengths([view for _, view in views], for_generation=for_generation)
            # An evaluation leaves no question out.
            stops = self.uses.over_length in (("error", "drop") if for_generation else ("error",))
            for (index, _), length in zip(views, lengths, strict=True):
                if not isinstance(length, RecordError):
                    longest[index] = max(longest[index], length if stops else 0)
                    # A conversation may be asked about several times, and begins alike each time.
                    words[index] = max(words[index], length) if for_generation else words[index] + length
                elif index not in found:
                    found.add(index)
                    yield index, length

    def _views(self, item: Conversation | Preference, *, for_generation: bool) -> Iterator[Conversation]:
        conversation = _asked(item)
        if not for_generation:
            sides = item.sides if isinstance(item, Preference) else (item,)
            yield from (side for side in sides if self.uses.learns and can_be_learned(side))
        elif self.uses.asks:
            last = len(asked_turns(conversation.turns))
            for number in range(1 if self.uses.judged == "every" else last, last + 1):
                yield judged_turn(conversation, number, self.uses.judged)


def _asked(item: Conversation | Preference) -> Conversation:
    """The conversation whose answers may be asked for."""
    return item.chosen if isinstance(item, Preference) else item
