"""Nulls on a command line."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from vlm_lit.cli import main
from vlm_lit.commands.nulls import with_nulls


def test_a_null_inside_a_setting_becomes_a_mapping() -> None:
    assert with_nulls(["--data.init_args.train.limit=null"]) == ['--data.init_args.train={"limit": null}']
    assert with_nulls(["--data.train.limit", "null", "--x=1"]) == ['--data.train={"limit": null}', "--x=1"]
    assert with_nulls(["--model.init_args.parts.head.learning_rate=~"]) == [
        '--model.init_args.parts={"head": {"learning_rate": null}}'
    ]


@pytest.mark.parametrize(
    "words",
    [
        ["--data.init_args.train=null"],
        ["--model.init_args.adapter", "null"],
        ["--trainer.limit_val_batches=null"],
        ["--model.init_args.optimizer.init_args.fused=null"],
        ["--data.init_args.train.path=nulls.json"],
    ],
)
def test_all_else_stays_as_it_is(words: list[str]) -> None:
    assert with_nulls(words) == words


def test_what_a_config_names_is_taken_back(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Before, a run looked for a file called None, or trained with pictures below a folder of that name."""
    config = tmp_path / "c.yaml"
    config.write_text(
        yaml.safe_dump(
            {
                "model": {"init_args": {"model_id": "x", "parts": {"projector": {"learning_rate": 0.1}}}},
                "data": {"init_args": {"train": {"path": "t.json", "image_root": "pictures", "limit": 5}}},
            }
        )
    )
    nulls = ["data.init_args.train.image_root", "data.init_args.train.limit",
             "model.init_args.parts.projector.learning_rate"]  # fmt: skip
    with pytest.raises(SystemExit):
        main(["fit", "--config", str(config), *(f"--{name}=null" for name in nulls), "--print_config"])
    found = yaml.safe_load(capsys.readouterr().out)
    assert found["data"]["init_args"]["train"]["image_root"] is None
    assert found["data"]["init_args"]["train"]["limit"] is None
    assert found["data"]["init_args"]["train"]["path"] == "t.json"
    assert found["model"]["init_args"]["parts"]["projector"] == {
        "precision": "bf16", "training": "full", "learning_rate": None, "last_layers": None,
    }  # fmt: skip
