"""Defaults of a section: those of the class that is named."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from vlm_lit.cli import main
from vlm_lit.commands.config_files import ConfigFiles
from vlm_lit.commands.default_class import default_class


def test_nothing_named_is_ours() -> None:
    assert default_class("model", ConfigFiles([])) == "vlm_lit.SupervisedModule"


@pytest.mark.parametrize("name", ["vlm_lit.ClassifierModule", "ClassifierModule"])
def test_the_named_class_is_taken(name: str) -> None:
    assert default_class("model", ConfigFiles([f"--model.class_path={name}"])) == name
    assert default_class("model", ConfigFiles([f"--model={name}"])) == name


@pytest.mark.parametrize(
    "name", ["vlm_lit.ClassifierModul", "os.system", "vlm_lit.ClassifierDataModule", "torch.nn.Linear"]
)
def test_what_cannot_be_made_is_left_to_the_parser_to_refuse(name: str) -> None:
    assert default_class("model", ConfigFiles([f"--model.class_path={name}"])) == "vlm_lit.SupervisedModule"


def test_defaults_of_another_class_are_not_taken(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """ConversationDataModule has effective_batch 16, and SupervisedModule a trained projector."""
    config = tmp_path / "c.yaml"
    config.write_text(
        yaml.safe_dump(
            {
                "model": {"class_path": "vlm_lit.ClassifierModule", "init_args": {"model_id": "x"}},
                "data": {"class_path": "vlm_lit.ClassifierDataModule", "init_args": {"train": {"path": "t.json"}}},
            }
        )
    )
    with pytest.raises(SystemExit):
        main(["fit", "--config", str(config), "--print_config"])
    found = yaml.safe_load(capsys.readouterr().out)
    assert found["data"]["init_args"]["effective_batch"] == 64
    assert found["model"]["init_args"]["parts"]["projector"]["training"] == "frozen"
    assert found["model"]["init_args"]["parts"]["head"]["training"] == "full"
