"""Small data sets written as a user's own files."""

from __future__ import annotations

import json
from pathlib import Path

from tests.support import tiny_models

ANSWERS = ("red", "blue", "yes", "no", "2")


def write_conversations(folder: Path, n: int, *, turns: int = 2, prefix: str = "") -> Path:
    """LLaVA-style image conversations with their pictures; answers of different lengths."""
    (folder / "images").mkdir(parents=True, exist_ok=True)
    rows = []
    for i in range(n):
        name = f"images/{prefix}{i}.png"
        tiny_models.picture(i).save(folder / name)
        talk = []
        for k in range(turns):
            question = f"what colour is lamp {k}?" + " and the tool" * (i % 3)
            answer = " ".join([ANSWERS[(i + k) % len(ANSWERS)]] * (1 + (i + k) % 4))
            talk += [
                {"from": "human", "value": ("<image>\n" if k == 0 else "") + question},
                {"from": "gpt", "value": answer},
            ]
        rows.append(
            {"id": f"{prefix}{i}", "image": name, "image_id": str(i), "conversations": talk, "answer_type": "other"}
        )
    path = folder / f"{prefix or 'data'}.json"
    path.write_text(json.dumps(rows), encoding="utf-8")
    return path
