"""Objects named in a text: a table of words, and the mentions that it finds.

A table is COCO's 80 classes as CHAIR knows them, a file in the form of CHAIR's `synonyms.txt`, or one's own JSON file.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from hashlib import blake2b
from pathlib import Path
from typing import Final

from vlm_lit.errors import ConfigError, RecordError
from vlm_lit.files.strict_json import read_json
from vlm_lit.metrics.coco_objects import JOINED, MUTED, SINGULARS, SYNONYMS

COCO: Final = "coco"
"""What the table of COCO's classes is called."""

_FORM: Final = 'Write {"hammer": ["hammer", "hammers"], ...}: each object with the words for it, plurals among them.'

_FULL_STOP: Final = re.compile(r"(?<=[^.])\.(?=[\])}>\"'»”’ ]*(?:\s|$))")  # noqa: RUF001 - the curly quote
_ALONE: Final = re.compile(r"\.{2,}|--|''|[;@#$%&?!*\[\](){}<>«»“”‘’„`\"\u2012-\u2015]|[:,](?!\d)")  # noqa: RUF001
_OPENING: Final = re.compile(r"(?<!\w)'(?!(?:re|ve|ll|m|t|s|d|n)\b)(?=\w)")
_LAST: Final = re.compile(r"(?<=[^' ])'(?= )")
_CLOSING: Final = re.compile(r"(?<=[^' ])(?:'(?:s|m|d|ll|re|ve)|')(?= )")


@dataclass(frozen=True, kw_only=True)
class ObjectWords:
    """A table of objects and the words for them.

    `objects` gives the object by its word. `singular` makes one form of a word's two; `joined` gives the word that
    several side by side are read as, and `muted` the words that name nothing in a text that has the other word.
    """

    objects: Mapping[str, str]
    singular: Callable[[str], str] = str
    joined: Mapping[tuple[str, ...], str]
    muted: Mapping[str, str]

    def mentions(self, text: str) -> list[str]:
        """The objects that a text names, in its order, each as often as it is named."""
        words = self._joined([self.singular(token) for token in caption_tokens(text.lower())])
        heard = [word for word in words if self.muted.get(word) not in words]
        return [self.objects[word] for word in heard if word in self.objects]

    def named(self, text: str) -> set[str]:
        """The objects that a reference names: its mentions, or the one that it is the name of."""
        known = self.objects.get(text.strip().lower())
        return {*self.mentions(text), *([] if known is None else [known])}

    @cached_property
    def digest(self) -> str:
        """Eight digits that are the same for the same table alone."""
        content = (sorted(self.objects.items()), sorted(self.joined.items()), sorted(self.muted.items()))
        return blake2b(repr(content).encode(), digest_size=4).hexdigest()

    @cached_property
    def _longest(self) -> int:
        return max(map(len, self.joined), default=1)

    def _joined(self, words: list[str]) -> list[str]:
        """The words from left to right, of those side by side as many as are read together."""
        found: list[str] = []
        at = 0
        while at < len(words):
            lengths = range(self._longest, 1, -1)
            length = next((n for n in lengths if tuple(words[at : at + n]) in self.joined), 1)
            found.append(words[at] if length == 1 else self.joined[tuple(words[at : at + length])])
            at += length
        return found


def caption_tokens(text: str) -> list[str]:
    """The words and marks of a caption, parted where NLTK's `word_tokenize` parts what can name an object.

    A hyphen, a slash and a full stop within a word do not part it; a full stop at the end of a sentence, other marks,
    brackets, quotes and `'s` do.
    """
    text = _FULL_STOP.sub(" . ", text)
    text = _LAST.sub(r" \g<0>", _ALONE.sub(r" \g<0> ", text))
    text = _OPENING.sub(r"\g<0> ", f" {' '.join(text.split())} ")
    return _CLOSING.sub(r" \g<0>", text).split()


def coco_singular(word: str) -> str:
    """A word as `pattern.en.singularize` makes it, for all words that matter to COCO's classes."""
    return SINGULARS.get(word) or word.removesuffix("s")


def object_words(objects: str) -> ObjectWords:
    """The table that a setting names.

    Args:
        objects: `coco`, a `.txt` file in the form of CHAIR's `synonyms.txt`, to which COCO's plurals and words read
            together apply, or a `.json` file of the words for each object, which are taken as they are written.

    Raises:
        ConfigError: there is no such file.
        RecordError: the file is not of its form; names what stands there.
    """
    if objects == COCO:
        return _from_synonyms(SYNONYMS.strip())
    path = Path(objects)
    if path.suffix not in (".json", ".txt") or not path.is_file():
        raise ConfigError(
            f"chair: objects is {objects!r}; there is no such file. It must be {COCO}, your own words in a .json file, "
            "or a .txt file in the form of CHAIR's synonyms.txt."
        )
    return _from_json(path) if path.suffix == ".json" else _from_synonyms(_read_text(path))


def _from_synonyms(text: str) -> ObjectWords:
    lines = [line.strip().split(", ") for line in text.splitlines() if line.strip()]
    objects = {word: line[0] for line in lines for word in line}
    return ObjectWords(objects=objects, singular=coco_singular, joined=JOINED, muted=MUTED)


def _read_text(path: Path) -> str:
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise RecordError(
            f"cannot be read ({error})", remedy="Write it as UTF-8 text.", file=path, code="objects"
        ) from error
    if not text.strip():
        raise RecordError("holds no words", remedy="Write an object and its words a line.", file=path, code="objects")
    return text


def _from_json(path: Path) -> ObjectWords:
    whole = read_json(path)
    if not isinstance(whole, dict) or not whole:
        raise RecordError("is no object of words by object", remedy=_FORM, file=path, code="objects")
    objects: dict[str, str] = {}
    joined: dict[tuple[str, ...], str] = {}
    for name, words in whole.items():
        if not (isinstance(words, list) and words and all(isinstance(word, str) and word.strip() for word in words)):
            raise RecordError("its words are no list of texts", remedy=_FORM, file=path, record=name, code="objects")
        for word in (name, *words):
            tokens = tuple(caption_tokens(word.lower()))
            spelled = " ".join(tokens)
            if objects.setdefault(spelled, name) != name:
                raise RecordError(
                    f"the word {word!r} is {objects[spelled]}'s too",
                    remedy="Give a word to one object alone.",
                    file=path,
                    record=name,
                    code="objects",
                )
            if len(tokens) > 1:
                joined[tokens] = spelled
    return ObjectWords(objects=objects, joined=joined, muted={})
