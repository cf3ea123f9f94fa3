"""CHAIR: objects that a description names and the image does not have.

Source of the definition: Rohrbach et al. 2018, "Object Hallucination in Image Captioning"; LisaAnne/Hallucination,
`utils/chair.py`, snapshot 6e4d33c. Other programs of that name differ: a copy that much later work uses (shikiw/OPERA)
takes WordNet's lemmas instead of `pattern`'s singulars, and its figures are not comparable.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from types import MappingProxyType
from typing import ClassVar

from vlm_lit.metrics.object_words import COCO, ObjectWords, object_words
from vlm_lit.metrics.rules import Answer, Counts, Rule, need_references, ratio


@dataclass(frozen=True)
class CHAIR(Rule):
    """Share of answers that name an object which no reference names, and figures of their mentions; lower is better.

    An object is named by any of its words. What is true of an image are the objects that the item's references name:
    captions, or the names of the objects in it. `overall` is `chair_s`, a mean over answers. `chair_i` is the share of
    hallucinated mentions among all mentions of all answers, repeats counted. `coverage` is the share of the true
    objects that are named. An answer that names no object is no hallucination to `chair_s` and adds nothing to
    `chair_i`: `silent`, the share of such answers, and `mentions` per answer say whether a model looks good by saying
    little. Nothing over nothing is 0.

    Args:
        objects: the table of words: `coco`, CHAIR's own for COCO's 80 classes; a `.json` file of your own words,
            {"hammer": ["hammer", "hammers"]}; or a `.txt` file in the form of CHAIR's synonyms.txt.

    Raises:
        ConfigError: there is no such table.
        RecordError: the file is not of its form.
    """

    title: ClassVar[str] = "chair"
    columns: ClassVar[int] = 6
    higher_is_better: ClassVar[bool] = False
    in_units: ClassVar[frozenset[str]] = frozenset({"mentions"})
    higher_details: ClassVar[Mapping[str, bool]] = MappingProxyType(
        {"chair_s": False, "chair_i": False, "coverage": True}
    )

    objects: str = COCO

    def __post_init__(self) -> None:
        super().__post_init__()
        self.words.mentions("")  # reads the table, so that a broken file is found before a model is loaded

    @cached_property
    def words(self) -> ObjectWords:
        """The table."""
        return object_words(self.objects)

    @property
    def name(self) -> str:
        """What reports call it: a table of one's own by its file's name and its content, wherever it lies."""
        if self.objects == COCO:
            return self.title
        return f"{self.title}[objects={Path(self.objects).stem}-{self.words.digest}]"

    def counts(self, answer: Answer) -> Counts:
        """Hallucinates (0 or 1), hallucinated mentions, mentions, true objects named, true objects, silent (0 or 1)."""
        need_references("CHAIR", answer.references)
        said, true = self.words.mentions(answer.prediction), self.true_objects(answer.references)
        wrong = sum(name not in true for name in said)
        return tuple(map(float, (wrong > 0, wrong, len(said), len(true.intersection(said)), len(true), not said)))

    def true_objects(self, references: Sequence[str]) -> frozenset[str]:
        """The objects that references name."""
        return frozenset().union(*map(self.words.named, references))

    def compared(self, answer: Answer) -> tuple[str, Sequence[str]]:
        """The objects that the answer names, each once, and all that are true."""
        said, true = set(self.words.mentions(answer.prediction)), self.true_objects(answer.references)
        return ", ".join(sorted(said)), [", ".join(sorted(true))]

    def values(self, sums: Sequence[float], n: int) -> dict[str, float]:
        """`chair_s` as `overall`, then the details."""
        hallucinating, wrong, mentions, covered, true, silent = sums
        return {
            "overall": hallucinating / n,
            "chair_s": hallucinating / n,
            "chair_i": ratio(wrong, mentions),
            "coverage": ratio(covered, true),
            "silent": silent / n,
            "mentions": mentions / n,
        }
