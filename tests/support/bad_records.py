"""Records that cannot be used, each with its reason code: conversations, pairs, questions."""

from __future__ import annotations

from typing import Any, Final

from tests.support.bad_inputs import CONVERSATION, PAIR, QUESTION, Fields, Task

Spoiled = tuple[Task, Fields, str]


def said(*turns: tuple[Any, Any], **more: Any) -> Fields:
    """A conversation of these turns, in LLaVA's form."""
    return {**CONVERSATION, "conversations": [{"from": role, "value": value} for role, value in turns], **more}


def chat(*turns: tuple[Any, Any], **more: Any) -> Fields:
    """A conversation of these turns, as chat messages."""
    return {"image": "a.png", "messages": [{"role": role, "content": content} for role, content in turns], **more}


ASKED, ANSWERED = ("human", "<image>\nWhat?"), ("gpt", "Red.")
PATHS: Final[dict[str, tuple[object, str]]] = {
    "that is not there": ("gone.png", "image.missing"),
    "of a folder": (".", "image.not_a_file"),
    "with nothing in it": ("", "conversation.image_count"),
    "of blanks": ("  ", "path.empty"),
    "above the folder": ("../../etc/passwd", "path.outside_root"),
    "from the root": ("/etc/passwd", "path.outside_root"),
    "from the root twice": ("//etc/passwd", "path.outside_root"),
    "out and in": ("../../../../../../../etc/passwd", "path.outside_root"),
    "with backslashes": ("..\\..\\etc\\passwd", "path.outside_root"),
    "of Windows": ("C:\\pictures\\a.png", "path.drive"),
    "of a server": ("https://example.org/a.png", "path.url"),
    "of a file URL": ("file:///etc/passwd", "path.outside_root"),
    "of a bucket": ("s3://bucket/a.png", "path.url"),
    "too long": ("a" * 5000 + ".png", "path.unusable"),
    "of a device": ("/dev/zero", "path.outside_root"),
    "of a home": ("~/a.png", "image.missing"),
    "in base64 that is none": ("data:image/png;base64,####", "image.data_uri"),
    "in base64 of words": ("data:image/png;base64,aGVsbG8=", "image.format"),
    "in base64 of letters beyond": ("data:image/png;base64,äöü", "image.data_uri"),
    "of a text in a URI": ("data:text/html,<b>", "image.data_uri"),
    "as a number": (7, "image.type"),
    "as a truth value": (True, "image.type"),
    "as a list in a list": ([["a.png"]], "image.type"),
    "as a mapping without one": ({"name": "a.png"}, "image.type"),
    "as a mapping of bytes in words": ({"bytes": 3}, "image.type"),
}

CONVERSATIONS: Final[dict[str, tuple[Fields, str]]] = {
    "no keys": ({}, "conversation.form"),
    "keys of nothing": ({"a": 1}, "conversation.form"),
    "no turns": (said(), "conversation.no_turns"),
    "turns as words": ({**CONVERSATION, "conversations": "What?"}, "conversation.turns_type"),
    "turns as a number": ({**CONVERSATION, "conversations": 3}, "conversation.turns_type"),
    "a turn as words": ({**CONVERSATION, "conversations": ["What?", "Red."]}, "conversation.turn_type"),
    "a turn as a list": ({**CONVERSATION, "conversations": [["human", "a"]]}, "conversation.turn_type"),
    "a turn without words": ({**CONVERSATION, "conversations": [{"from": "human"}]}, "conversation.turn_keys"),
    "a turn without a role": ({**CONVERSATION, "conversations": [{"value": "a"}]}, "conversation.turn_keys"),
    "a role as a number": (said((1, "<image>a"), ANSWERED), "conversation.role"),
    "an unknown role": (said(("robot", "<image>a"), ANSWERED), "conversation.role"),
    "a tool": (said(ASKED, ("tool", "a"), ANSWERED), "conversation.role"),
    "words as null": (said(("human", None), ANSWERED), "conversation.value"),
    "words as a number": (said(("human", 3), ANSWERED), "conversation.value"),
    "an answer as a mapping": (said(ASKED, ("gpt", {"a": "b"})), "conversation.value"),
    "an empty answer": (said(ASKED, ("gpt", "")), "conversation.blank_answer"),
    "an answer of blanks": (said(ASKED, ("gpt", " \n\t")), "conversation.blank_answer"),
    "an answer first": (said(ANSWERED, ASKED), "conversation.first_turn"),
    "an answer alone": (said(ANSWERED), "conversation.first_turn"),
    "a question alone": (said(ASKED), "conversation.no_answer"),
    "two questions": (said(ASKED, ("human", "b"), ANSWERED), "conversation.order"),
    "two answers": (said(ASKED, ANSWERED, ANSWERED), "conversation.order"),
    "a question last": (said(ASKED, ANSWERED, ("human", "b")), "conversation.no_answer"),
    "a late system message": (said(ASKED, ("system", "a"), ANSWERED), "conversation.system_position"),
    "two places for one image": (said(("human", "<image><image>a"), ANSWERED), "conversation.image_count"),
    "two images for one place": (said(ASKED, ANSWERED, image=["a.png", "a.png"]), "conversation.image_count"),
    "a place for no image": ({"conversations": CONVERSATION["conversations"]}, "conversation.image_count"),
    "a video": (said(("human", "<video>a"), ANSWERED), "conversation.other_input"),
    "an audio": (said(("human", "<image><audio>a"), ANSWERED), "conversation.other_input"),
    "a key of video": (said(ASKED, ANSWERED, video="a.mp4"), "conversation.key"),
    "half a surrogate": (said(("human", "<image>\ud800"), ANSWERED), "json.lone_surrogate"),
    "a zero character": (said(("human", "<image>a\0b"), ANSWERED), "json.zero_character"),
    "not a number": (said(ASKED, ANSWERED, more=float("nan")), "json.not_a_number"),
    "two lists of turns": ({**CONVERSATION, "messages": CONVERSATION["conversations"]}, "conversation.ambiguous"),
    "image and images": (said(ASKED, ANSWERED, images=["a.png"]), "conversation.ambiguous"),
    "a part of no type": (chat(("user", [{"kind": "text"}]), ("assistant", "b")), "conversation.part_type"),
    "a part of sound": (chat(("user", [{"type": "audio"}]), ("assistant", "b")), "conversation.part_type"),
    "a part as a number": (chat(("user", [3]), ("assistant", "b")), "conversation.part_type"),
    "a part of text without text": (chat(("user", [{"type": "text"}]), ("assistant", "b")), "conversation.value"),
    "a weight in words": (
        {**CONVERSATION, "conversations": [{"from": "human", "value": "<image>a", "weight": "much"}]},
        "conversation.turn_flag",
    ),
    "tools": (chat(("user", "a"), ("assistant", "b"), tools=[{"name": "x"}]), "conversation.key"),
    "a completion without prompt": ({"completion": "a"}, "conversation.form"),
    "a prompt of numbers": ({"prompt": 3, "completion": "a"}, "conversation.value"),
    "instruction of numbers": ({"instruction": 3, "output": "a"}, "conversation.value"),
}

PAIRS: Final[dict[str, tuple[Fields, str]]] = {
    "no keys": ({}, "preference.form"),
    "no rejected answer": ({k: v for k, v in PAIR.items() if k != "rejected"}, "preference.missing"),
    "no chosen answer": ({k: v for k, v in PAIR.items() if k != "chosen"}, "preference.missing"),
    "rejected is null": ({**PAIR, "rejected": None}, "preference.missing"),
    "chosen is a number": ({**PAIR, "chosen": 3.5}, "preference.type"),
    "chosen is a mapping": ({**PAIR, "chosen": {"a": "b"}}, "preference.prompt"),
    "chosen is empty": ({**PAIR, "chosen": ""}, "preference.missing"),
    "chosen is blank": ({**PAIR, "chosen": " \n"}, "conversation.blank_answer"),
    "both the same": ({**PAIR, "rejected": "Red."}, "preference.identical"),
    "no prompt": ({k: v for k, v in PAIR.items() if k != "prompt"}, "conversation.form"),
    "prompt is a number": ({**PAIR, "prompt": 3}, "conversation.value"),
    "prompt is empty": ({**PAIR, "prompt": ""}, "conversation.empty_turn"),
    "prompts that differ": (
        {
            "image": "a.png",
            "chosen": [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}],
            "rejected": [{"role": "user", "content": "c"}, {"role": "assistant", "content": "d"}],
        },
        "preference.prompt",
    ),
    "an answer of roles that differ": (
        {**PAIR, "chosen": [{"role": "user", "content": "a"}], "rejected": [{"role": "assistant", "content": "d"}]},
        "preference.prompt",
    ),
    "an unknown role": ({**PAIR, "chosen": [{"role": "robot", "content": "a"}]}, "preference.prompt"),
    "an image that is not there": ({**PAIR, "image": "gone.png"}, "image.missing"),
    "an image above the folder": ({**PAIR, "image": "../../etc/passwd"}, "path.outside_root"),
    "an image of a server": ({**PAIR, "image": "https://example.org/a.png"}, "path.url"),
    "half a surrogate": ({**PAIR, "chosen": "\udc00"}, "json.lone_surrogate"),
    "two places for one image": ({**PAIR, "prompt": "<image><image>a"}, "conversation.image_count"),
    "a video": ({**PAIR, "video": "a.mp4"}, "conversation.key"),
    "completions as words": ({"image": "a.png", "prompt": "a", "completions": "b"}, "preference.completions"),
    "completions without ratings": (
        {"image": "a.png", "prompt": "a", "completions": [{"response": "b"}, {"response": "c"}]},
        "preference.tie",
    ),
    "pairs and turns": ({**PAIR, "conversations": CONVERSATION["conversations"]}, "preference.ambiguous"),
}

QUESTIONS: Final[dict[str, tuple[Fields, str]]] = {
    "no question": ({"image": "a.png", "answers": ["red"]}, "conversation.form"),
    "question is null": ({**QUESTION, "question": None}, "conversation.empty_turn"),
    "question is empty": ({**QUESTION, "question": ""}, "conversation.empty_turn"),
    "question is blank": ({**QUESTION, "question": " \n"}, "conversation.empty_turn"),
    "question is a number": ({**QUESTION, "question": 3}, "conversation.value"),
    "question is a list": ({**QUESTION, "question": ["What?"]}, "conversation.value"),
    "question to be written": ({**QUESTION, "question": "[ANNOTATE this]"}, "conversation.unfilled"),
    "no answer": ({"image": "a.png", "question": "What?"}, "conversation.no_answer"),
    "answers are empty": ({**QUESTION, "answers": []}, "conversation.no_answer"),
    "answers of blanks": ({**QUESTION, "answers": [" "]}, "conversation.blank_answer"),
    "answers are numbers": ({**QUESTION, "answers": [[3]]}, "conversation.value"),
    "answers are a mapping": ({**QUESTION, "answers": {"a": 1}}, "conversation.value"),
    "answers with soft scores": (
        {"image": "a.png", "question": "What?", "label": {"ids": ["net", "mesh"], "weights": [1.0, 0.3]}},
        "conversation.soft_scores",
    ),
    "answers with scores beside them": (
        {**QUESTION, "answers": ["net", "mesh"], "weights": [1.0, 0.3]},
        "conversation.soft_scores",
    ),
    "no image": ({"question": "What?", "answers": ["red"]}, "question.images"),
    "two images": ({**QUESTION, "image": ["a.png", "a.png"]}, "question.images"),
    "a system message": (
        chat(("system", "Be short."), ("user", [{"type": "image"}, {"type": "text", "text": "a"}]), ("assistant", "b")),
        "question.turns",
    ),
    "several turns": (said(ASKED, ANSWERED, ("human", "b"), ("gpt", "c")), "question.turns"),
    "an image alone": (said(("human", "<image>"), ANSWERED), "question.words"),
    "half a surrogate": ({**QUESTION, "question": "\ud83d"}, "json.lone_surrogate"),
    "a question of a video": ({**QUESTION, "question": "<video> What?"}, "conversation.other_input"),
    "an image that is not there": ({**QUESTION, "image": "gone.png"}, "image.missing"),
}

RECORDS: Final[dict[str, Spoiled]] = {
    **{f"conversation, {name}": ("conversations", *case) for name, case in CONVERSATIONS.items()},
    **{f"pair, {name}": ("pairs", *case) for name, case in PAIRS.items()},
    **{f"question, {name}": ("questions", *case) for name, case in QUESTIONS.items()},
    **{f"path {n}": ("conversations", {**CONVERSATION, "image": path}, code) for n, (path, code) in PATHS.items()},
}
