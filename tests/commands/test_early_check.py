"""Tests of the check before the imports: it refuses in the parser's words, and refuses nothing else."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest
import yaml

from tests.support.refusals import edited, refusal
from vlm_lit.commands.early_check import check
from vlm_lit.commands.known_options import DEFAULT_CLASSES, dotted_names, section_class, top_level
from vlm_lit.commands.lightning import VlmLitCLI
from vlm_lit.commands.process_rules import refusing
from vlm_lit.errors import ConfigError

Config = Callable[..., Path]
Capture = pytest.CaptureFixture[str]
ROOT = Path(__file__).parents[2]
PARTS = "model.init_args.parts"
RUNNABLE = sorted((ROOT / "configs").glob("*.yaml"))


def said(function: Callable[[], object]) -> str:
    with pytest.raises(ConfigError) as caught:
        function()
    return str(caught.value)


def of_the_parser(arguments: list[str]) -> str:
    """What the real parser says, which has imported everything."""
    with refusing():
        return said(lambda: VlmLitCLI("fit", arguments))


@pytest.mark.parametrize(
    "changes",
    [
        {"model.init_args.lora.rnk": 4},
        {f"{PARTS}.projector.trainig": "full"},
        {f"{PARTS}.hed": {"precision": "fp32"}},
        {"data.init_args.train.pth": "x"},
        {"trainer.max_epoch": 3},
        {"modle": {"class_path": "x"}},
        {"model.init_args.learnin_rate": 1},
        {"model.init_args.xyzzy": 1},
        {"model.init_args.lora.xyzzy": 1},
        {"model.class_path": "vlm_lit.training.supervised.SupervisedModul"},
        {"model.class_path": "vlm_lit.trainin.supervised.SupervisedModule"},
        {"model.class_path": "vlm_lit.data.datamodule.ConversationDataModule"},
        {"model.class_path": "os.system"},
        {"model.class_path": "vlmlit.training.supervised.SupervisedModule"},
        {"data.init_args.over_length": "eror"},
        {f"{PARTS}.language_model.training": "fulll"},
    ],
)
def test_a_config_is_refused_in_the_parsers_words(changes: Mapping[str, object], config: Config) -> None:
    arguments = ["--config", str(edited(config(), changes))]
    assert said(lambda: check("fit", arguments)) == of_the_parser(arguments)


@pytest.mark.parametrize(
    "option",
    ["run_dri", "trainer.max_epoch", "model.init_args.learnin_rate", "model.learnin_rate", "model.init_args.rank",
     f"{PARTS}.projector.trainig", "data.init_args.train.pth", "data.num_worker"],
)  # fmt: skip
def test_an_option_is_refused_in_the_parsers_words(option: str, config: Config) -> None:
    arguments = ["--config", str(config()), f"--{option}", "1"]
    assert said(lambda: check("fit", arguments)) == of_the_parser(arguments)


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["CONFIG"], "follows no option. Did you mean --config CONFIG? Options begin with --."),
        (["--config", "CONFIG", "stray"], "stray follows no option. Options begin with --."),
        (["--learning_rate", "1"], "learning_rate is not an option. Did you mean model.init_args.learning_rate?"),
        (["--lora.rank", "1"], "lora.rank is not an option. Did you mean model.init_args.lora.rank?"),
        (["--max_epochs", "1"], "max_epochs is not an option. Did you mean trainer.max_epochs?"),
        (["--modle.lora.rank", "1"], "modle.lora.rank is not an option. Did you mean model.lora.rank?"),
        (["--model", "SupervisdModule"], "model.class_path is SupervisdModule, which does not exist. Did you mean Sup"),
        (["--modle=x"], "modle is not an option. Did you mean model?"),
        ([], "model.init_args.model_id must be set. Say it in a config: --config <file>."),
    ],
)
def test_what_people_type_by_habit(words: list[str], says: str, config: Config, capsys: Capture) -> None:
    path = str(config())
    error = refusal(capsys, "fit", *(word.replace("CONFIG", path) for word in words))
    assert says.replace("CONFIG", path) in error


# Nothing else is refused --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("path", RUNNABLE, ids=lambda path: path.name)
@pytest.mark.parametrize("verb", ["fit", "validate", "test", "predict"])
def test_the_configs_pass(path: Path, verb: str) -> None:
    check(verb, ["--config", str(path)])
    prefers = path.stem.endswith("_dpo")
    for overlay in (ROOT / "configs" / "overlay").glob("*.yaml"):
        of_pairs = "For preferences" in overlay.read_text(encoding="utf-8")
        of_conversations = path.stem.startswith("vilt") and overlay.stem == "llava15_system"
        if not of_conversations and (prefers or not of_pairs):
            check(verb, ["--config", str(path), "--config", str(overlay)])


def test_every_option_passes(config: Config) -> None:
    options = [f"--{section}.{name}" for section in (*DEFAULT_CLASSES, "trainer") for name in names_of(section)]
    options += [f"--{section}.init_args.{name}" for section in DEFAULT_CLASSES for name in names_of(section)]
    options += [
        f"--{name}"
        for name in top_level("fit")
        - {"config", "c", "h", "help", "print_config", "overwrite", *DEFAULT_CLASSES, "trainer"}
    ]
    assert len(options) > 200
    check("fit", ["--config", str(config()), *(word for option in options for word in (option, "?"))])


def names_of(section: str) -> list[str]:
    found = section_class(section)
    assert found is not None
    return list(dotted_names(found))


@pytest.mark.parametrize(
    "words",
    [
        ["--trainer.max_steps", "-1"],
        ["--data.prompt", "{question}"],
        ["--data.init_args.prompt", "Question: {question}"],
        ["--print_config"],
        ["--print_config=skip_default"],
        ["--trainer.callbacks+", "vlm_lit.training.callbacks.throughput.Throughput"],
        ["--trainer.callbacks.init_args.anything", "1"],
        ["--model.optimizer", "torch.optim.SGD", "--model.optimizer.init_args.momentum", "0.9"],
        ["--model", "{learning_rate: 1.0}"],
        ["--model=SupervisedModule"],
        ["--data", "vlm_lit.data.datamodule.ConversationDataModule"],
        ["--model.answer_from", "[yes, no]"],
        ["--trainer.logger.init_args.save_dir", "x"],
        ["--model.revision", "null"],
        ["--data.blind", "null"],
    ],
)
def test_what_is_right_passes(words: list[str], config: Config) -> None:
    check("fit", ["--config", str(config()), *words])


def test_another_class_is_left_to_the_parser(config: Config, monkeypatch: pytest.MonkeyPatch) -> None:
    path = edited(config(), {"model.class_path": "own_package.Mine", "model.init_args.own_setting": 1})
    assert "names own_package.Mine, which a config may not import" in said(
        lambda: check("fit", ["--config", str(path)])
    )
    monkeypatch.setenv("VLM_LIT_ALLOW_IMPORTS", "own_package")
    check("fit", ["--config", str(path)])
    check("fit", ["--config", str(path), "--model.own_setting", "2"])


def test_a_class_that_a_later_file_changes_is_left_to_the_parser(config: Config, tmp_path: Path) -> None:
    later = tmp_path / "later.yaml"
    later.write_text(yaml.safe_dump({"model": {"class_path": "vlm_lit.training.module.VisionLanguageModule"}}))
    path = edited(config(), {"model.init_args.of_the_other": 1})
    check("fit", ["--config", str(path), "--config", str(later)])


def test_a_python_without_our_packages_is_named(config: Config, tmp_path: Path) -> None:
    # As on a cluster's node: the repository is the current folder, so vlm_lit is found, and nothing else of the user's.
    (tmp_path / "yaml").symlink_to(Path(yaml.__file__).parent)
    words = [sys.executable, "-S", "-m", "vlm_lit", "fit", "--config", str(config())]
    ended = subprocess.run(
        words, cwd=ROOT, env={"PYTHONPATH": str(tmp_path)}, capture_output=True, text=True, check=False
    )
    assert ended.returncode == 2
    assert f"error: {sys.executable} has no package lightning" in ended.stderr


# A config without class_path ----------------------------------------------------------------------------------------


def test_a_config_that_names_no_class_gets_ours(config: Config, tmp_path: Path, capsys: Capture) -> None:
    settings = yaml.safe_load(config().read_text())
    plain = {**settings, "model": settings["model"]["init_args"], "data": settings["data"]["init_args"]}
    path = tmp_path / "plain.yaml"
    path.write_text(yaml.safe_dump(plain))
    for one in (tmp_path / "config.yaml", path):
        with pytest.raises(SystemExit), refusing():
            VlmLitCLI("fit", ["--config", str(one), "--print_config"])
    shown = capsys.readouterr().out.split("# lightning.pytorch==")
    assert len(shown) == 3
    full = {
        "model": "vlm_lit.training.supervised.SupervisedModule",
        "data": "vlm_lit.data.datamodule.ConversationDataModule",
    }
    named = shown[1]
    for section, path_of_class in full.items():
        named = named.replace(path_of_class, DEFAULT_CLASSES[section])
    assert named == shown[2]
    assert yaml.safe_load(shown[2].split("\n", 1)[1])["model"]["class_path"] == DEFAULT_CLASSES["model"]
    plain["model"]["lora"]["rnk"] = 3
    path.write_text(yaml.safe_dump(plain))
    assert "lora.rnk is not an option" in said(lambda: check("fit", ["--config", str(path)]))
