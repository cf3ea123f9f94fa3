"""Tests of the tables of objects: what a text names, by COCO's words and by one's own."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vlm_lit.errors import VlmLitError
from vlm_lit.metrics.coco_objects import JOINED, SYNONYMS
from vlm_lit.metrics.object_words import caption_tokens, coco_singular, object_words

COCO_NAMES = (
    """
person, bicycle, car, motorcycle, airplane, bus, train, truck, boat, traffic light, fire hydrant, stop sign,
parking meter, bench, bird, cat, dog, horse, sheep, cow, elephant, bear, zebra, giraffe, backpack, umbrella,
handbag, tie, suitcase, frisbee, skis, snowboard, sports ball, kite, baseball bat, baseball glove, skateboard,
surfboard, tennis racket, bottle, wine glass, cup, fork, knife, spoon, bowl, banana, apple, sandwich, orange,
broccoli, carrot, hot dog, pizza, donut, cake, chair, couch, potted plant, bed, dining table, toilet, tv, laptop,
mouse, remote, keyboard, cell phone, microwave, oven, toaster, sink, refrigerator, book, clock, vase, scissors,
teddy bear, hair drier, toothbrush
""".strip()
    .replace(",\n", ", ")
    .split(", ")
)
"""The names of the 80 categories in COCO's instances files, in their order."""


def test_every_category_of_coco_is_an_object_by_its_name() -> None:
    words = object_words("coco")
    assert [line.split(", ")[0] for line in SYNONYMS.strip().splitlines()] == COCO_NAMES
    assert [words.named(name) for name in COCO_NAMES] == [{name} for name in COCO_NAMES]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Two men and their puppies.", ["person", "dog"]),
        ("a dog, a Dog and THE dogs", ["dog", "dog", "dog"]),
        ("a baby elephant by a passenger train", ["elephant", "train"]),  # and no person
        ("a baby with an elephant", ["person", "elephant"]),
        ("hot dogs and wine glasses", ["hot dog", "wine glass"]),  # and neither a dog nor a glass
        ("a man at home plate on the train tracks", ["person"]),
        ("the toilet seat", ["toilet"]),
        ("the seat of the toilet", ["toilet"]),
        ("the seat of the bus", ["chair"]),
        ("a street light over a stop sign", ["traffic light", "stop sign"]),
        ("a bow tie", ["tie"]),
        ("a skier on skis", ["person", "skis"]),
        ("two buses", ["bus"]),
        ("it is red", []),
        ("", []),
    ],
)
def test_objects_in_a_caption(text: str, expected: list[str]) -> None:
    assert object_words("coco").mentions(text) == expected


@pytest.mark.parametrize("text", ["a bus", "ties", "two canoes", "a magpie and magpies", "a cheesecake"])
def test_what_the_published_table_does_not_find_is_not_found(text: str) -> None:
    assert object_words("coco").mentions(text) == (["bird"] if "magpie " in text else [])


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("a dog. a cat.", ["a", "dog", ".", "a", "cat", "."]),
        ("a dog's tail", ["a", "dog", "'s", "tail"]),
        ('"dog" (cat) **bird**', ['"', "dog", '"', "(", "cat", ")", "*", "*", "bird", "*", "*"]),
        ("dog,cat;bird:3,5", ["dog", ",", "cat", ";", "bird:3,5"]),
        ("hot-dog cat/dog dog.cat", ["hot-dog", "cat/dog", "dog.cat"]),  # one word each, as NLTK has it
        ("dog... cat--bird", ["dog", "...", "cat", "--", "bird"]),
        ("'dog' the dogs' bowl", ["'", "dog", "'", "the", "dogs", "'", "bowl"]),
        ("the cat's' bowl", ["the", "cat", "'s", "'", "bowl"]),
        ("a dog.\n\n1. a cat", ["a", "dog", ".", "1", ".", "a", "cat"]),
    ],
)
def test_words_and_marks(text: str, expected: list[str]) -> None:
    assert caption_tokens(text) == expected


@given(st.text(alphabet="dogcat .,:;'\"*()-/5", max_size=30))
def test_parting_loses_no_letter(text: str) -> None:
    assert "".join(caption_tokens(text)) == text.replace(" ", "")


@pytest.mark.parametrize(
    ("plural", "singular"),
    [("dogs", "dog"), ("women", "woman"), ("geese", "goose"), ("knives", "knife"), ("boxes", "boxe"), ("bus", "bu")],
)
def test_singulars(plural: str, singular: str) -> None:
    assert coco_singular(plural) == singular


def test_all_plurals_are_those_of_pattern() -> None:
    """The digest was made by running `pattern.en.singularize` (clips/pattern d25511f) over the same forms."""
    words = {word for line in SYNONYMS.strip().splitlines() for entry in line.split(", ") for word in entry.split()}
    known = {word.lower() for word in words}.union(*JOINED)
    endings = ((0, ""), (0, "s"), (0, "es"), (1, "ies"), (1, "ves"), (2, "ves"), (3, "men"), (0, "ses"))
    forms = sorted({word[: len(word) - cut] + ending for word in known for cut, ending in endings})
    found = [f"{form} {coco_singular(form)}" for form in forms if coco_singular(form) in known]
    assert (len(forms), len(found)) == (3121, 852)
    assert hashlib.sha256("\n".join(found).encode()).hexdigest()[:16] == "85022fd5fa73943c"


def table(folder: Path, content: object, name: str = "mine.json") -> str:
    path = folder / name
    path.write_text(content if isinstance(content, str) else json.dumps(content), encoding="utf-8")
    return str(path)


def test_own_words_are_taken_as_they_are_written(tmp_path: Path) -> None:
    words = object_words(
        table(tmp_path, {"hammer": ["hammers", "HMR-1"], "tool box": ["box of tools"], "box": ["box"]})
    )
    assert words.mentions("A Hammer and hammers, hmr-1 in a box of tools.") == ["hammer"] * 3 + ["tool box"]
    assert words.mentions("a box with hammering tools") == ["box"]
    assert words.mentions("the tool box") == ["tool box"]


def test_a_file_in_the_published_form_takes_the_published_rules(tmp_path: Path) -> None:
    words = object_words(table(tmp_path, "cat, kitten\nsofa, couch, iPhone\n", "synonyms.txt"))
    assert words.mentions("two kittens on a couch with a baby cat and an iPhone") == ["cat", "sofa", "cat"]
    assert object_words(table(tmp_path, SYNONYMS.strip(), "all.txt")).digest == object_words("coco").digest


@pytest.mark.parametrize(
    ("content", "says"),
    [
        ("[]", "mine.json: is no object of words by object"),
        ("{}", "mine.json: is no object of words by object"),
        ('{"hammer": "hammers"}', "mine.json, record hammer: its words are no list of texts"),
        ('{"hammer": []}', "mine.json, record hammer: its words are no list of texts"),
        ('{"hammer": ["a", " "]}', "mine.json, record hammer: its words are no list of texts"),
        ('{"saw": ["cutter"], "knife": ["Cutter"]}', "record knife: the word 'Cutter' is saw's too"),
        ('{"saw": ["saws"], "saws": ["saws"]}', "record saws: the word 'saws' is saw's too"),
        ('{"saw": ["saws"]', "mine.json"),
    ],
)
def test_broken_tables_are_refused(tmp_path: Path, content: str, says: str) -> None:
    with pytest.raises(VlmLitError, match=says):
        object_words(table(tmp_path, content))


@pytest.mark.parametrize("name", ["cocoa", "missing.json", "missing.txt", ".", ""])
def test_missing_tables_are_refused(name: str) -> None:
    with pytest.raises(VlmLitError, match=r"there is no such file. It must be coco, "):
        object_words(name)


def test_an_empty_or_unreadable_list_is_refused(tmp_path: Path) -> None:
    with pytest.raises(VlmLitError, match=r"empty.txt: holds no words"):
        object_words(table(tmp_path, "\n", "empty.txt"))
    (tmp_path / "latin.txt").write_bytes(b"caf\xe9, bar\n")
    with pytest.raises(VlmLitError, match=r"latin.txt: cannot be read"):
        object_words(str(tmp_path / "latin.txt"))
