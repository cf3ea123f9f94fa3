"""One run of TRL over pairs: its DPOTrainer and collator, on the model and pairs that ours trains on.

    python scripts/benchmark/theirs_dpo.py run.json result.json

As in `theirs.py` the weights come from our loader. TRL is handed the base and the LoRA config, as its users hand it
them: the reference is then the base with adapters off, the projector's original among it.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import theirs
from datasets import Dataset, Features, Image, List, Value
from peft import PeftModel

from vlm_lit.data.checkpoint.processors import load_processor


def dataset(steps: list[list[dict[str, Any]]], root: Path) -> Dataset:
    """The pairs in the order in which they are to be seen; pictures are decoded when asked for."""
    kept = ("prompt", "chosen", "rejected")
    rows = [
        {"images": [str(root / image) for image in row["images"]], **{key: row[key] for key in kept}}
        for step in steps
        for row in step
    ]
    text = Value("string")
    turns = List({"role": text, "content": List({"type": text, "text": text})})
    return Dataset.from_list(rows, features=Features({"images": List(Image()), **dict.fromkeys(kept, turns)}))


def trainer(run: dict[str, Any], made: PeftModel, folder: Path) -> Any:  # noqa: ANN401 - TRL need not be installed
    """TRL's trainer, with what it does by default wherever that is faster."""
    from trl import (  # type: ignore[import-not-found,import-untyped,attr-defined,unused-ignore]
        DPOConfig,
        DPOTrainer,
    )

    theirs.choose_head(run)
    settings = DPOConfig(**theirs.training_arguments(run, folder), loss_type=["sigmoid"], beta=run["beta"])
    kept, adapter = theirs.trained_values(made), made.peft_config["default"]
    ready = DPOTrainer(
        made.unload(),
        args=settings,
        train_dataset=dataset(run["steps"], Path(run["train"]).parent),
        processing_class=load_processor(run["checkpoint"]),
        peft_config=adapter,
    )
    theirs.put_back(ready.model, kept)
    return ready


if __name__ == "__main__":
    theirs.main(trainer)
