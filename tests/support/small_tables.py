"""Small Parquet files in the columns of the hub's data sets, for the configs that name them."""

from __future__ import annotations

import base64
import io
import json
from pathlib import Path

import datasets

from tests.support import tiny_models


def _png(seed: int) -> bytes:
    buffer = io.BytesIO()
    tiny_models.picture(seed).save(buffer, format="PNG")
    return buffer.getvalue()


def _write(rows: list[dict[str, object]], features: dict[str, object], path: Path) -> Path:
    datasets.Dataset.from_list(rows, features=datasets.Features(features)).to_parquet(str(path))
    return path


def write_charts(folder: Path, n: int, answer: str = "14") -> Path:
    """`charts.parquet` in the columns and features of HuggingFaceM4/ChartQA."""
    text = datasets.Value("string")
    labels = datasets.ClassLabel(names=["human", "machine"])
    features = {"image": datasets.Image(), "query": text, "label": datasets.List(text), "human_or_machine": labels}
    rows = [
        {"image": {"bytes": _png(i), "path": None}, "query": f"lamp {i}?", "label": [answer], "human_or_machine": i % 2}
        for i in range(n)
    ]
    return _write(rows, features, folder / "charts.parquet")


def write_products(folder: Path, n: int) -> Path:
    """`products.parquet` in the columns of philschmid/amazon-product-descriptions-vlm; every third has no category."""
    names = ("Product Name", "Category", "description")
    rows: list[dict[str, object]] = [
        {
            "image": {"bytes": _png(i), "path": None},
            "Product Name": f"Lamp {i}",
            "Category": None if i % 3 == 0 else "Lamps",
            "description": "A red lamp.",
        }
        for i in range(n)
    ]
    features = {"image": datasets.Image(), **{name: datasets.Value("string") for name in names}}
    return _write(rows, features, folder / "products.parquet")


def write_messages(folder: Path, n: int) -> Path:
    """`messages.jsonl` in the messages form of chat APIs, pictures as data URIs."""
    rows = []
    for i in range(n):
        uri = "data:image/png;base64," + base64.b64encode(_png(i)).decode()
        asked = [{"type": "image_url", "image_url": {"url": uri}}, {"type": "text", "text": f"Describe lamp {i}."}]
        rows.append(
            {"messages": [{"role": "user", "content": asked}, {"role": "assistant", "content": f"A red lamp, {i}."}]}
        )
    path = folder / "messages.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path
