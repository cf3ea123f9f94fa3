"""Drawn inputs of four kinds, each looked at as a run looks at it: used, or refused in the project's own words.

Anything else that is raised is a failure, and so is a reason code that the page of the codes does not have.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Final

import yaml
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.strategies import SearchStrategy

import vlm_lit
from tests.support import tiny_models
from tests.support.bad_inputs import CONVERSATION, PAIR, QUESTION
from tests.support.bad_pictures import file_of
from vlm_lit.commands.early_check import check
from vlm_lit.data.conversations.conversations import to_conversation
from vlm_lit.data.conversations.preferences import to_preference
from vlm_lit.data.images.image_paths import ImageProblem
from vlm_lit.data.images.images import load_image
from vlm_lit.data.rows.conversation_encoder import ConversationEncoder
from vlm_lit.data.rows.encoder_choice import encoder_of
from vlm_lit.errors import ConfigError, RecordError
from vlm_lit.schema import IMAGE, Conversation, ImageRef, Record, Turn

_PAGE: Final = (Path(vlm_lit.__file__).parent / "data" / "REASONS.md").read_text(encoding="utf-8")
CODES: Final = frozenset(re.findall(r"^\| `([a-z_.0-9]+)` \|", _PAGE, re.MULTILINE))


def drawing(count: int) -> settings:
    """So many inputs, drawn anew each time and never made smaller; a decorator."""
    return settings(
        max_examples=count,
        deadline=None,
        database=None,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )


def _check_code(code: str) -> None:
    assert code in CODES, f"{code} is not on the page of the codes"


# Pictures -------------------------------------------------------------------------------------------------------------

_WHOLE: Final = [
    *(file_of(kind=kind) for kind in ("PNG", "JPEG", "GIF", "TIFF", "WEBP", "BMP")),
    *(file_of(mode) for mode in ("L", "RGBA", "P", "1", "LA", "I;16")),
    file_of(kind="TIFF", compression="tiff_lzw"),
    file_of("F", kind="TIFF"),
]
_CHANGES: Final = st.lists(st.tuples(st.floats(0, 1), st.binary(min_size=1, max_size=6)), max_size=4)
pictures: Final[SearchStrategy[bytes]] = st.one_of(
    st.binary(max_size=200),
    st.builds(
        lambda data, changes, share: _changed(data, changes)[: int(len(data) * share)],
        st.sampled_from(_WHOLE),
        _CHANGES,
        st.one_of(st.just(1.0), st.floats(0, 1)),
    ),
)


def _changed(data: bytes, changes: list[tuple[float, bytes]]) -> bytes:
    for share, put in changes:
        at = int(share * len(data) * share)  # headers are where the most can go wrong
        data = data[:at] + put + data[at + len(put) :]
    return data


def look_at_picture(data: bytes) -> None:
    """Decode a picture."""
    try:
        assert load_image(ImageRef(data=data)).mode == "RGB"
    except ImageProblem as problem:
        _check_code(problem.code)


# Records --------------------------------------------------------------------------------------------------------------

_KEYS: Final = [
    *(
        "image",
        "images",
        "conversations",
        "messages",
        "question",
        "answers",
        "answer",
        "prompt",
        "completion",
        "chosen",
    ),
    *(
        "rejected",
        "completions",
        "choices",
        "options",
        "id",
        "question_id",
        "system",
        "history",
        "instruction",
        "input",
    ),
    *(
        "output",
        "query",
        "label",
        "video",
        "tools",
        "weight",
        "image_1",
        "from",
        "value",
        "role",
        "content",
        "type",
        "text",
    ),
]
_WORDS: Final = st.one_of(
    st.sampled_from(
        ["user", "assistant", "human", "gpt", "system", "tool", "<image>", "<image>\nWhat?", "red", "text"]
    ),
    st.text(max_size=12),
)
_VALUES: Final[SearchStrategy[Any]] = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(), st.floats(), st.binary(max_size=8), _WORDS),
    lambda inner: st.one_of(
        st.lists(inner, max_size=4), st.dictionaries(st.one_of(st.sampled_from(_KEYS), _WORDS), inner, max_size=4)
    ),
    max_leaves=12,
)
records: Final[SearchStrategy[dict[str, Any]]] = st.builds(
    lambda good, drawn: {**good, **drawn},
    st.sampled_from([{}, CONVERSATION, PAIR, QUESTION]),
    st.dictionaries(st.sampled_from(_KEYS), _VALUES, max_size=4),
)


def look_at_record(fields: Mapping[str, Any]) -> None:
    """Read a record as a conversation, and as a pair of answers."""
    record = Record(file=Path("/set/data.json"), index=3, fields=fields, image_root=Path("/set"))
    readers: list[Callable[[], object]] = [
        lambda: to_conversation(record, requires_answer=True),
        lambda: to_conversation(record, requires_answer=False, prompt="{question} Answer."),
        lambda: to_preference(record),
    ]
    for read in readers:
        try:
            read()
        except RecordError as error:
            _check_code(error.code)


# Conversations --------------------------------------------------------------------------------------------------------

_SAID: Final = st.lists(
    st.one_of(
        st.sampled_from(
            ["<image>", "</s>", "<s>", "<pad>", "USER:", "ASSISTANT:", "\n", " ", "{{ 1 }}", "\ue000", "\uf8fe"]
        ),
        st.text(st.characters(exclude_categories=["Cs"]), max_size=6),
    ),
    min_size=1,
    max_size=8,
).map("".join)
_ROLES: Final = st.lists(st.sampled_from(["user", "assistant", "system"]), min_size=1, max_size=7)
conversations: Final[SearchStrategy[Conversation]] = st.builds(
    lambda roles, said, pictured: Conversation(
        id="c",
        turns=tuple(
            Turn(role=role, content=(IMAGE, text) if pictured and k == 0 and role == "user" else (text,))
            for k, (role, text) in enumerate(zip(roles, said, strict=False))
        ),
        images=(),
        file="data.json",
        record="7",
    ),
    _ROLES,
    st.lists(_SAID, min_size=7, max_size=7),
    st.booleans(),
)


@cache
def _encoder() -> ConversationEncoder:
    return encoder_of(tiny_models.llava_processor())


def look_at_conversation(conversation: Conversation) -> None:
    """Render and tokenize a conversation, for training and for an answer."""
    for asked in (False, True):
        for found in _encoder().text_lengths([conversation], for_generation=asked):
            assert isinstance(found, int) or found.code in CODES


# Configs --------------------------------------------------------------------------------------------------------------

_NAMES: Final = [
    *(
        "model",
        "data",
        "trainer",
        "class_path",
        "init_args",
        "model_id",
        "lora",
        "rank",
        "train",
        "val",
        "path",
        "parts",
    ),
    *(
        "callbacks",
        "logger",
        "max_epochs",
        "seed_everything",
        "run_dir",
        "ckpt_path",
        "optimizer",
        "precision",
        "a",
        "",
    ),
]
_SETTINGS: Final[SearchStrategy[Any]] = st.recursive(
    st.one_of(
        st.none(),
        st.booleans(),
        st.integers(),
        st.floats(),
        _WORDS,
        st.sampled_from(["os.system", "vlm_lit", "x.yaml"]),
    ),
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(st.sampled_from(_NAMES), inner, max_size=4)),
    max_leaves=10,
)
configs: Final[SearchStrategy[str]] = st.one_of(
    st.dictionaries(st.sampled_from(_NAMES), _SETTINGS, max_size=5).map(lambda drawn: str(yaml.safe_dump(drawn))),
    st.lists(
        st.sampled_from(
            ["a: ", "- ", "&x ", "*x ", "{", "}", "[", "]", "!!python/name:os.system ", "\n", "  ", "1", "'", "<<: "]
        ),
        max_size=20,
    ).map("".join),
    st.text(max_size=60),
)


def look_at_config(text: str) -> None:
    """Read a config as `fit` does before it imports anything heavy."""
    with TemporaryDirectory() as folder:
        path = Path(folder, "config.yaml")
        path.write_text(text, encoding="utf-8", errors="surrogatepass")
        try:
            check("fit", ["--config", str(path)])
        except ConfigError:
            return


KINDS: Final[dict[str, tuple[SearchStrategy[Any], Callable[[Any], None]]]] = {
    "pictures": (pictures, look_at_picture),
    "records": (records, look_at_record),
    "conversations": (conversations, look_at_conversation),
    "configs": (configs, look_at_config),
}
