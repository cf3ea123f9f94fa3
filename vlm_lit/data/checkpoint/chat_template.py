"""The checkpoint's chat template: renders a conversation as text, its content in the form the template takes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any, Final, Literal

from jinja2 import TemplateError
from transformers import ProcessorMixin

from vlm_lit.data.checkpoint.bounded_template import TooMuchWorkError, bound_templates
from vlm_lit.data.checkpoint.template_day import templates_on
from vlm_lit.schema import ImageSlot, Role, Turn

bound_templates()

Form = Literal["list", "content", "string"]
"""How a message's content is written: a list of parts, a list whose texts also stand under `content` (as Mistral's
first templates read them), or, where it has no image, one string."""

FORMS: Final[dict[Role, tuple[Form, ...]]] = {
    "system": ("list", "content", "string"),
    "user": ("list", "content"),
    "assistant": ("list", "content", "string"),
}

# Llama 3's templates write today's date into the prompt unless they are given one, and others ask for the time: a model
# would be trained on one prompt and asked another. This is Llama's own fallback.
_DATE: Final = {"date_string": "26 Jul 2024"}
_DAY: Final = datetime(2024, 7, 26)


class TemplateRefusedError(Exception):
    """What a template said, or the Python error that it ended with, where it does not take a conversation."""


class TemplateStoppedError(Exception):
    """A template that did not end by itself."""


class ChatTemplate:
    """A processor's chat template.

    Args:
        processor: whose template it is.
        forms: how each role's content is written.
    """

    def __init__(self, processor: ProcessorMixin, forms: Mapping[Role, Form]) -> None:
        self.processor, self.forms = processor, dict(forms)

    @property
    def source(self) -> str:
        """The template's own text; of several, all of them."""
        return str(self.processor.chat_template)

    def text(self, turns: Sequence[Turn], *, for_generation: bool) -> str:
        """What the template writes for `turns`; nothing for none.

        Raises:
            TemplateRefusedError: it does not take them. Templates refuse by `raise_exception`, or by any Python error.
            TemplateStoppedError: it does more than any conversation needs.
        """
        if not turns:
            return ""
        messages = [{"role": turn.role, "content": _content(turn, self.forms[turn.role])} for turn in turns]
        date = _DATE if "date_string" in self.source else {}
        try:
            with templates_on(_DAY):
                return str(
                    self.processor.apply_chat_template(
                        messages, tokenize=False, add_generation_prompt=for_generation, **date
                    )
                )
        except TooMuchWorkError as error:
            raise TemplateStoppedError(str(error)) from error
        except TemplateError as error:
            raise TemplateRefusedError(str(error)) from error
        except Exception as error:  # a template is a program of the checkpoint's: its errors are of any type
            raise TemplateRefusedError(f"{type(error).__name__}: {error}") from error


def _content(turn: Turn, form: Form) -> str | list[dict[str, Any]]:
    pictured = any(isinstance(part, ImageSlot) for part in turn.content)
    if form == "string" and not pictured:
        return turn.text
    # Several templates read the first text only of who cannot show a picture.
    parts = turn.content if turn.role == "user" else (turn.text,)
    return [{"type": "image"} if isinstance(part, ImageSlot) else _text(part, form) for part in parts]


def _text(text: str, form: Form) -> dict[str, str]:
    return {"type": "text", "text": text} | ({"content": text} if form == "content" else {})
