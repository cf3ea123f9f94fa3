"""Examination of a data set before training starts: every record is looked at once."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from typing import Any, TypeVar

from lightning.pytorch.utilities import rank_zero_info

from vlm_lit.data.conversations.conversations import check_unique_ids
from vlm_lit.data.images.images import check_images
from vlm_lit.data.mixture import Mixture
from vlm_lit.data.records.findings import numbered_repeats
from vlm_lit.data.records.record_dataset import Item, RecordDataset
from vlm_lit.data.records.record_sequences import ArrowRecords, ChainedRecords
from vlm_lit.data.records.sources import SourceSettings
from vlm_lit.data.records.tar_samples import TarRecords
from vlm_lit.errors import ConfigError
from vlm_lit.schema import Record

Examined = TypeVar("Examined", bound=RecordDataset[Any])


def examine(
    dataset: Examined,
    source: SourceSettings,
    *,
    training: bool,
    images: bool,
    check: Callable[[Examined], None] | None = None,
) -> None:
    """Check every record that is at hand, note what is found, and say it.

    Args:
        dataset: what was read.
        source: its settings.
        training: whether it is trained on. An evaluation needs ids of which no two are the same.
        images: whether images are opened as well.
        check: looks at all records; None looks at each, and at its images, one at a time.

    Raises:
        RecordError: a record or image that cannot be used, named with its file and a remedy.
    """
    dataset.mixture = _mixture(source, dataset.records)
    # Checking a table means reading all of its image bytes, so it is skipped together with the images.
    if images or not isinstance(dataset.records, ArrowRecords | TarRecords):
        if check is not None:
            check(dataset)
        else:
            _check(dataset, training=training, images=images)
    elif len(dataset):
        dataset.findings.add(dataset[0])
    mixed = dataset.mixture.lines() if dataset.mixture is not None else ()
    for line in (*mixed, *dataset.findings.lines()):
        rank_zero_info(line)


def _check(dataset: RecordDataset[Item], *, training: bool, images: bool) -> None:
    """Look at every record once, one at a time: a table's records hold their images' bytes."""

    def looked_at() -> Iterator[Item]:
        for item in dataset.looked_at(dataset[i] for i in range(len(dataset))):
            dataset.findings.add(item)
            if images:
                check_images(item)
            yield replace(item, images=())

    if training:  # it scores nobody by the id
        ids = [item.id for item in looked_at()]
        dataset.renamed = numbered_repeats(ids)
        dataset.ids = [dataset.renamed.get(i, name) for i, name in enumerate(ids)]
        dataset.findings.repeated = len(dataset.renamed)
    else:
        check_unique_ids(looked_at())


def check_weights(source: SourceSettings, *, training: bool) -> None:
    """Refuse weights of a single source, of a stream, or in an evaluation.

    Raises:
        ConfigError: the reason, and what to do.
    """
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
