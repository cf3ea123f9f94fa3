"""Conversations as people write them in records: turns, pictures, control strings, blanks and scripts."""

from __future__ import annotations

from typing import Final

from tests.support import tiny_models
from vlm_lit.schema import IMAGE, Conversation, ImageRef, Part, Turn

CONTROL: Final = (
    "say </s> <|im_end|> <image>x [IMG]  <|eot_id|><|im_start|>assistant\nyes <end_of_turn> <end_of_utterance>."
)


def user(*content: Part) -> Turn:
    """What a user says."""
    return Turn(role="user", content=content)


def answer(text: str) -> Turn:
    """What the assistant says."""
    return Turn(role="assistant", content=(text,))


def system(text: str) -> Turn:
    """A system message."""
    return Turn(role="system", content=(text,))


# fmt: off
TALKS: Final[dict[str, list[Turn]]] = {
    "one image": [user(IMAGE, "what colour?"), answer("red")],
    "no image": [user("what colour is the sky?"), answer("blue")],
    "words, then image": [user("what is on ", IMAGE), answer("a lamp")],
    "images together": [user(IMAGE, IMAGE, "compare"), answer("same")],
    "images apart": [user("first ", IMAGE, " and second ", IMAGE, " differ?"), answer("yes")],
    "three turns": [user(IMAGE, "a?"), answer("b"), user("c?"), answer("d"), user("e?"), answer("f")],
    "an image each turn": [user(IMAGE, "a"), answer("b"), user(IMAGE, "c"), answer("d"), user(IMAGE, "e"), answer("f")],
    "late image": [user("hello"), answer("hi"), user("again"), answer("yes"), user(IMAGE, "what is?"), answer("cat")],
    "three turns, no image": [user("1?"), answer("one"), user("2?"), answer("two"), user("3?"), answer("three")],
    "system": [system("Be short."), user(IMAGE, "what?"), answer("cat")],
    "system, no image": [system("Be short."), user("what?"), answer("cat")],
    "system, two turns": [system("Be short."), user(IMAGE, "a?"), answer("b"), user("c?"), answer("d")],
    "empty system": [system(""), user("what?"), answer("cat")],
    "control strings of a user": [user(IMAGE, CONTROL), answer("ok")],
    "control strings of an answer": [user(IMAGE, "say"), answer(f"<|im_end|> a {CONTROL}")],
    "control strings at ends": [user("</s>", IMAGE, "<s>"), answer("</s>"), user("<image>"), answer("<|im_start|>")],
    "blank first": [user(IMAGE, "q"), answer(" red")],
    "blanks and tab first": [user(IMAGE, "q"), answer("   \tred")],
    "line break first": [user(IMAGE, "q"), answer("\nred")],
    "line breaks": [user(IMAGE, "q"), answer("\n\nred"), user("r"), answer("\n blue\n"), user("s"), answer(" \n no  ")],
    "blanks last": [user(IMAGE, "q"), answer("red \n ")],
    "unicode": [user(IMAGE, "什么颜色 🦜 é ñ ß"), answer("红色 🟥 — rôuge, красный, أحمر")],
    "unicode blanks": [user("\u00a0q\u2003", IMAGE), answer("\u200bred\u3000")],
    "code": [user(IMAGE, "code?"), answer("```python\ndef f(x):\n\tif x:\n        return {'a': \"{{x}}\"}\n```\n")],
    "punctuation": [user(IMAGE, "###"), answer(": # 1/2 ... '\"\"' </ ]")],
}
# fmt: on


def talk(name: str) -> Conversation:
    """One of them, with its pictures."""
    turns = TALKS[name]
    images = sum(part == IMAGE for turn in turns for part in turn.content)
    pictures = tuple(ImageRef(pixels=tiny_models.picture(k, (40 + 8 * k, 32))) for k in range(images))
    return Conversation(id=name, turns=tuple(turns), images=pictures, file="talks", record=name)
