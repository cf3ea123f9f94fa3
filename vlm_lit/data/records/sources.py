"""Data sources of a run: their settings, the checks of their records, and access by index or as a stream."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from lightning.pytorch.utilities import rank_zero_info
from torch.utils.data import Dataset, IterableDataset, get_worker_info

from vlm_lit.data.conversations.choices import choices_of, with_lettered_choices
from vlm_lit.data.conversations.conversations import check_unique_ids, has_own_turns, to_conversation
from vlm_lit.data.conversations.record_images import image_key_of
from vlm_lit.data.conversations.refusals import refusal
from vlm_lit.data.conversations.slots import Placeholders
from vlm_lit.data.images.images import check_images
from vlm_lit.data.mixture import Mixture
from vlm_lit.data.records.annotations import Annotations
from vlm_lit.data.records.findings import Findings, numbered_repeats
from vlm_lit.data.records.image_names import image_name_fields, with_named_image
from vlm_lit.data.records.image_tables import ImageTable, ImageTableSettings
from vlm_lit.data.records.record_sequences import ArrowRecords, ChainedRecords
from vlm_lit.data.records.records import read_records, stream_records
from vlm_lit.data.records.written_lists import with_lists
from vlm_lit.data.rows.packing import image_key
from vlm_lit.data.sampler import derive_seed
from vlm_lit.errors import ConfigError
from vlm_lit.schema import Conversation, Record

_SHUFFLE_BUFFER = 1000


@dataclass(frozen=True, kw_only=True)
class SourceSettings:
    """Where conversations are read from.

    Args:
        path: a .json, .jsonl, .csv, .tsv (each also .gz), .parquet, .arrow or WebDataset .tar file, a pattern or folder
            of them, a folder with metadata.jsonl or metadata.csv, a folder saved by `datasets`, a hub id, or a list of
            any of these, which follow one another.
        split: split of a data set, slices such as train[:10%] included; a single file is one split, train.
        name: configuration of a hub data set, or a list of several, which follow one another.
        columns: our field names to the source's, for example {question: query, answers: label}; a field within a column
            is written with a dot, for example {structural: types.structural}.
        lists: fields whose text is read as a list of texts where it begins as one, for example "['red', 'blue']".
        weights: for each entry of path its share of a training epoch, in any unit; null visits each record once.
        records: key of a JSON file's one object that holds the records; null to find it.
        annotations: file with the answers to the questions in path, as VQA publishes them, joined by question_id.
        image_name: how the image of a record without one is called, for example COCO_train2014_{image_id:012d}.jpg.
        images_from: another source that holds the records' images, under a key that the records name.
        image_root: folder that relative image paths start from; null takes the file's own folder.
        group_fields: further fields of a record to break scores down by.
        prompt_without_choices: template for records without choices, where some have them; null for the same template.
        ignore_keys: keys that are left out of records and of their turns as if they were not there.
        placeholders: slots puts images where users' words say <image>, or what other programs write for it; text reads
            all of that as words.
        limit: use only the first so many records.
        revision: commit of a hub data set.
        streaming: read a hub data set without downloading it whole; needs trainer.max_steps.
    """

    path: list[str] | str
    split: str = "train"
    name: str | list[str] | None = None
    columns: dict[str, str] | None = None
    lists: list[str] | None = None
    weights: list[float] | None = None
    records: str | None = None
    annotations: str | None = None
    image_name: str | None = None
    images_from: ImageTableSettings | None = None
    image_root: str | None = None
    group_fields: list[str] | None = None
    prompt_without_choices: str | None = None
    ignore_keys: list[str] | None = None
    placeholders: Placeholders = "slots"
    limit: int | None = None
    revision: str | None = None
    streaming: bool = False


@dataclass(frozen=True, kw_only=True)
class _Reading:
    """How one source's records become conversations."""

    source: SourceSettings
    prompt: str | None
    system: str | None
    requires_answer: bool
    images: ImageTable | None
    answers: Annotations | None = None
    image_name: str | None = None

    def conversation(self, record: Record) -> Conversation:
        if self.answers is not None:
            record = self.answers.with_answers(record)
            _check_image_is_named(record, self)
        if self.image_name is not None:
            record = with_named_image(record, self.image_name)
        record = with_lettered_choices(with_lists(record, self.source.lists or ()))
        if self.images is not None:
            record = self.images.with_image(record)
        other = self.source.prompt_without_choices
        return to_conversation(
            record,
            prompt=self.prompt if other is None or choices_of(record) else other,
            system=self.system,
            requires_answer=self.requires_answer,
            group_fields=self.source.group_fields or (),
            ignore_keys=self.source.ignore_keys or (),
            known_keys=self.known_keys,
            placeholders=self.source.placeholders,
        )

    @property
    def known_keys(self) -> Sequence[str]:
        """Keys that the settings name: they are as the user wants them."""
        source = self.source
        table = [source.images_from.image_key] if source.images_from is not None else []
        named = image_name_fields(self.image_name) if self.image_name is not None else ()
        return [*(source.columns or ()), *(source.lists or ()), *table, *named]

    def options(self) -> Mapping[str, object]:
        source = self.source
        return {
            "split": source.split,
            "name": source.name,
            "columns": source.columns,
            "image_root": Path(source.image_root) if source.image_root else None,
            "limit": source.limit,
            "revision": source.revision,
            "key": source.records,
        }


class ConversationDataset(Dataset[Conversation]):
    """Conversations by index, made from their records when asked for."""

    def __init__(self, records: Sequence[Record], reading: _Reading) -> None:
        self.records, self.reading = records, reading
        self.image_keys: list[str | None] | None = None
        """What names each conversation's images, once every record has been looked at."""
        self.ids: list[str] | None = None
        """Each conversation's id, from then on."""
        self.most_images: int | None = None
        """How many images the conversation has that has most of them, from then on."""
        self._answers: list[int] | None = None
        self.findings = Findings(source=name_of(reading.source))
        """What its records have that is not used, once they have been looked at."""
        self.mixture: Mixture | None = None
        """How often an epoch visits each of several sources, where that is not said by their sizes."""
        self.renamed: dict[int, str] = {}
        """New ids for records that repeat one."""

    def __len__(self) -> int:
        return len(self.records)

    def __getitem__(self, index: int) -> Conversation:
        conversation = self.reading.conversation(self.records[index])
        new = self.renamed.get(index if index >= 0 else index + len(self))
        return conversation if new is None else replace(conversation, id=new)

    @property
    def answers(self) -> list[int]:
        """How many answers each conversation has or asks for."""
        if self._answers is None:
            # Reading a table means reading its images' bytes; a row without turns of its own has one answer.
            several = len(self) > 0 and has_own_turns(self.records[0], self.reading.prompt)
            self._answers = [_answers(self[i]) if several else 1 for i in range(len(self))]
        return self._answers

    def looked_at(self, conversations: Iterable[Conversation]) -> Iterator[Conversation]:
        """The same conversations, all of the data set's in order, noting what later stages ask for."""
        keys, ids, answers, most = list[str | None](), list[str](), list[int](), 0
        for conversation in conversations:
            keys.append(image_key(conversation))
            ids.append(conversation.id)
            answers.append(_answers(conversation))
            most = max(most, len(conversation.images))
            yield conversation
        self.image_keys, self.ids, self._answers, self.most_images = keys, ids, answers, most


def _answers(conversation: Conversation) -> int:
    return sum(turn.role == "user" for turn in conversation.turns)


class StreamedSteps(IterableDataset[list[Conversation]]):
    """Step batches read from a stream, shuffled within a buffer. The order follows from the seed alone."""

    def __init__(self, reading: _Reading) -> None:
        self.reading = reading
        self.effective_batch = self.steps = self.seed = self.start = self.rank = 0
        self.world = 1

    def arranged(self, effective_batch: int, steps: int, seed: int, start: int, rank: int, world: int) -> StreamedSteps:
        """The same stream cut into step batches for one rank; see `StepSampler` for the arguments."""
        self.effective_batch, self.steps, self.seed = effective_batch, steps, seed
        self.start, self.rank, self.world = start, rank, world
        return self

    def __iter__(self) -> Iterator[list[Conversation]]:
        info = get_worker_info()
        worker, workers = (info.id, info.num_workers) if info is not None else (0, 1)
        for step, records in enumerate(self._step_batches()):
            if step == self.start and worker == 0:
                self._say_findings(records)
            if step >= self.steps:
                return
            # A loader takes from its workers in turn, so worker w must give the step batches w, w + workers, ...
            if step >= self.start and (step - self.start) % workers == worker:
                yield [self.reading.conversation(record) for record in records[self.rank :: self.world]]

    def _say_findings(self, records: Sequence[Record]) -> None:
        """Say what is not used of the first records; nobody has looked at them before."""
        findings = Findings(source=name_of(self.reading.source))
        for record in records:
            findings.add(self.reading.conversation(record))
        for line in findings.lines():
            rank_zero_info(line)

    def _step_batches(self) -> Iterator[list[Record]]:
        records: list[Record] = []
        for record in self._endless():
            records.append(record)
            if len(records) == self.effective_batch:
                yield records
                records = []

    def _endless(self) -> Iterator[Record]:
        epoch = 0
        while True:
            empty = True
            for record in _shuffled(self._records(), derive_seed("stream", self.seed, epoch)):
                empty = False
                yield record
            if empty:
                raise ConfigError(f"{name_of(self.reading.source)} holds no record.")
            epoch += 1

    def _records(self) -> Iterator[Record]:
        return iter(stream_records(self.reading.source.path, **self.reading.options()))  # type: ignore[arg-type]


def most_images(source: ConversationDataset | StreamedSteps) -> int:
    """How many images a conversation of a source has at most, as far as that is known; else as many as its first."""
    if isinstance(source, StreamedSteps):
        return 1
    if source.most_images is None:
        return len(source[0].images) if len(source) else 1
    return source.most_images


def _shuffled(records: Iterator[Record], seed: int) -> Iterator[Record]:
    generator, buffer = torch.Generator().manual_seed(seed), list[Record]()
    for record in records:
        if len(buffer) < _SHUFFLE_BUFFER:
            buffer.append(record)
            continue
        at = int(torch.randint(len(buffer), (1,), generator=generator))
        buffer[at], record = record, buffer[at]
        yield record
    for at in torch.randperm(len(buffer), generator=generator).tolist():
        yield buffer[at]


def open_source(
    source: SourceSettings, *, prompt: str | None, system: str | None, requires_answer: bool, check_images: bool
) -> ConversationDataset | StreamedSteps:
    """Open a source and check every record of it that is at hand before training starts.

    Raises:
        RecordError: a record or image that cannot be used, named with its file and a remedy.
    """
    images = ImageTable(source.images_from) if source.images_from is not None else None
    answers, image_name = _joined(source)
    reading = _Reading(
        source=source,
        prompt=prompt,
        system=system,
        requires_answer=requires_answer,
        images=images,
        answers=answers,
        image_name=image_name,
    )
    _check_weights(source, training=requires_answer)
    if source.streaming:
        return StreamedSteps(reading)
    records = read_records(source.path, **reading.options())  # type: ignore[arg-type]
    dataset = ConversationDataset(records, reading)
    dataset.mixture = _mixture(source, records)
    # Checking a table means reading all of its image bytes, so it is skipped together with the images.
    if check_images or not isinstance(records, ArrowRecords):
        _check(dataset, images=check_images)
    elif len(dataset):
        dataset.findings.add(dataset[0])
    mixed = dataset.mixture.lines() if dataset.mixture is not None else ()
    for line in (*mixed, *dataset.findings.lines()):
        rank_zero_info(line)
    return dataset


def _check_image_is_named(record: Record, reading: _Reading) -> None:
    """A question whose image is known by its number alone is not to be asked without it."""
    known = reading.image_name is not None or reading.images is not None or image_key_of(record) is not None
    if not known and record.fields.get("image_id") is not None:
        remedy = "Set image_name, for example image_name: COCO_train2014_{image_id:012d}.jpg."
        raise refusal(
            record, "its image_id names an image, and nothing says its file", remedy=remedy, code="image_name"
        )


def name_of(source: SourceSettings) -> str:
    """How messages call a source."""
    return source.path if isinstance(source.path, str) else ", ".join(source.path)


def _joined(source: SourceSettings) -> tuple[Annotations | None, str | None]:
    """The answers that stand in another file, and how images are called."""
    if source.image_name is not None:
        image_name_fields(source.image_name)
    if source.annotations is None:
        return None, source.image_name
    answers = Annotations(Path(source.annotations).expanduser())
    first = Path(name_of(source)).parent
    root = Path(source.image_root) if source.image_root is not None else first
    return answers, source.image_name or answers.image_name(root)


def _check_weights(source: SourceSettings, *, training: bool) -> None:
    if source.weights is None:
        return
    if isinstance(source.path, str):
        raise ConfigError(
            "weights are for several sources: write path as a list, and a weight for each of its entries."
        )
    if source.streaming or not training:
        where = "a stream" if source.streaming else "an evaluation, which needs every question once"
        raise ConfigError(f"weights are not for {where}. Set them to null.")


def _mixture(source: SourceSettings, records: Sequence[Record]) -> Mixture | None:
    if source.weights is None:
        return None
    assert isinstance(records, ChainedRecords)
    sizes = tuple(map(len, records.parts))
    return Mixture(tuple(source.path), sizes, tuple(source.weights))


def _check(dataset: ConversationDataset, *, images: bool) -> None:
    """Look at every record once, one at a time: a table's records hold their images' bytes."""

    def looked_at() -> Iterator[Conversation]:
        for conversation in dataset.looked_at(dataset[i] for i in range(len(dataset))):
            dataset.findings.add(conversation)
            if images:
                check_images(conversation)
            yield replace(conversation, images=())

    if dataset.reading.requires_answer:  # training scores nobody by the id
        ids = [conversation.id for conversation in looked_at()]
        dataset.renamed = numbered_repeats(ids)
        dataset.ids = [dataset.renamed.get(i, name) for i, name in enumerate(ids)]
        dataset.findings.repeated = len(dataset.renamed)
    else:
        check_unique_ids(looked_at())
