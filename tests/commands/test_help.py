"""Tests of the help pages: they show what the real parser takes, without heavy imports."""

from __future__ import annotations

import ast
import importlib
import json
import subprocess
import sys

import pytest

from tests.support.refusals import refusal
from vlm_lit.cli import VERBS, main
from vlm_lit.commands.known_options import DEFAULT_CLASSES, TRAINER_CLASS, dotted_names, top_level
from vlm_lit.commands.lightning import VlmLitCLI
from vlm_lit.commands.parsing import SuggestingParser
from vlm_lit.commands.signatures import find_class, method_parameters, own_classes, parameters
from vlm_lit.commands.verbs import EXAMPLES

Capture = pytest.CaptureFixture[str]
LIGHTNING_VERBS = ("fit", "validate", "test", "predict")
HEAVY = {"torch", "lightning", "transformers", "datasets", "peft", "jsonargparse", "numpy"}
PROBE = """
import sys, json
from vlm_lit.cli import main
try:
    main(sys.argv[1:])
except SystemExit:
    pass
print(json.dumps(sorted({name.split('.')[0] for name in sys.modules})))
"""
ONE_SCREEN = 50
ALL_SETTINGS = 80


def shown(capsys: Capture, *arguments: str) -> str:
    assert main(arguments) == 0
    return capsys.readouterr().out


def parser_of(path: str, **options: object) -> SuggestingParser:
    """The real parser of one class, which imports it."""
    module, _, name = path.rpartition(".")
    parser = SuggestingParser()
    parser.add_class_arguments(getattr(importlib.import_module(module), name), **options)
    return parser


def real_names(path: str) -> set[str]:
    return {name for name in parser_of(path).known_names() if not name.endswith("help")}


# Help is what the parser takes ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("path", [*DEFAULT_CLASSES.values(), TRAINER_CLASS])
def test_the_names_are_those_of_the_real_parser(path: str) -> None:
    found = find_class(path)
    assert found is not None
    known, names = real_names(path), dotted_names(found)
    for name, parameter in names.items():
        if parameter.settings is not None and not any(other.startswith(f"{name}.") for other in known):
            # The real parser looks into what may be null once there is something in it.
            known |= {f"{name}.{inner}" for inner in real_names(parameter.settings.class_path)}
    assert names.keys() == known


@pytest.mark.parametrize("path", [*DEFAULT_CLASSES.values(), TRAINER_CLASS])
def test_the_defaults_and_words_are_those_of_the_real_parser(path: str) -> None:
    found = find_class(path)
    assert found is not None
    checked = 0
    actions = {action.dest: action for action in parser_of(path)._actions}
    for parameter in parameters(found):
        action = actions.get(parameter.name)
        if action is None or parameter.settings is not None or parameter.name == "optimizer":
            continue
        if parameter.default is not None:
            assert action.default == ast.literal_eval(parameter.default), parameter.name
        if parameter.choices is not None and action.choices is not None:
            assert list(action.choices) == parameter.choices
        assert " ".join((action.help or "").split("\n\n")[0].split()) == parameter.help, parameter.name
        checked += 1
    assert checked > 10


@pytest.mark.parametrize("verb", LIGHTNING_VERBS)
def test_the_names_of_a_run_are_those_of_the_real_parser(verb: str) -> None:
    class Unrun(VlmLitCLI):
        def parse_arguments(self, parser: object, args: object) -> None:
            inner = self._parser(verb)
            assert isinstance(inner, SuggestingParser)
            known = inner.known_names()
            assert {name.split(".")[0] for name in known} | {"h", "c", "help"} == top_level(verb)
            raise InterruptedError

    with pytest.raises(InterruptedError):
        Unrun(verb, [])


def test_every_class_of_ours_is_read_as_it_is_imported() -> None:
    for base in ("LightningModule", "LightningDataModule", "Callback"):
        classes = own_classes("vlm_lit", base)
        assert classes
        for path, found in classes.items():
            if path.endswith(("Bar", "AnswerPicture", "VisionLanguageModule")):
                continue  # what they pass on is Lightning's, or nobody makes them
            names = {name for name in parser_of(path).known_names() if "." not in name}
            assert {parameter.name for parameter in parameters(found)} == names, path


def test_a_method_that_passes_its_words_on() -> None:
    found = find_class("lightning.Trainer")
    assert found is not None
    assert found.class_path == "lightning.pytorch.trainer.trainer.Trainer"
    assert "ckpt_path" in [p.name for p in method_parameters(found, "fit")]
    assert find_class("lightning.Trainr") is None
    assert find_class("os") is None


# What a person sees ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("verb", LIGHTNING_VERBS)
def test_ours_come_first_with_their_defaults(verb: str, capsys: Capture) -> None:
    page = shown(capsys, verb, "--help")
    assert page == shown(capsys, verb, "--config", "nowhere.yaml", "-h")
    order = ["--config", "--run_dir = runs/run", "--ckpt_path", "--model.model_id (must be set)"]
    order += ["--model.learning_rate = 0.0002", "--data.train", "--data.effective_batch = 16"]
    order += ["--trainer.max_epochs", "--trainer.precision"]
    places = [page.index(f"  {words}  ") if not words.endswith(")") else page.index(words) for words in order]
    assert places == sorted(places)
    assert f"Example: python -m vlm_lit {EXAMPLES[verb]}" in page
    assert "--seed_everything" in page
    assert "--model.seed" not in page  # it follows from seed_everything
    assert len(page.splitlines()) <= ALL_SETTINGS


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["--data.help"], ["--data.effective_batch\n", "whole number; default: 16)", "--data.train.path\n"]),
        (["--data.help", DEFAULT_CLASSES["data"]], ["--data.effective_batch\n", "default: 16)"]),
        (["--data.help=ConversationDataModule"], ["--data.effective_batch\n"]),
        (["--model.help"], ["--model.lora.rank\n", "default: 16)", "--model.parts.head.precision\n"]),
        (["--model.help", "SupervisedModule"], ["--model.lora.rank\n"]),
        (["--trainer.help"], ["--trainer.max_epochs\n", "--trainer.profiler\n", "--trainer.num_sanity_val_steps\n"]),
        (["--data.train.help"], ["--data.train.path\n", "must be set"]),
        (["--data.init_args.train.help"], ["--data.train.path\n"]),
        (["--model.lora.help"], ["--model.lora.alpha\n", "default: 32.0)"]),
        (["--model.schedule.help"], ["one of cosine, linear, polynomial, constant, constant_with_warmup"]),
        (["--model.optimizer.help", "torch.optim.AdamW"], ["--model.optimizer.weight_decay\n"]),
        (
            ["--trainer.callbacks.help", "vlm_lit.training.callbacks.step_checkpoint.StepCheckpoint"],
            ["--trainer.callbacks.every_n_steps\n"],
        ),
    ],
)
def test_the_help_that_help_names(
    arguments: list[str], says: list[str], capsys: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "120")  # the page wraps its lines
    page = shown(capsys, "fit", *arguments)
    for words in says:
        assert words in page


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["--data.help", "ConversationDatModule"], "Did you mean ConversationDataModule?"),
        (["--data.help", "vlm_lit.data.datamodul.ConversationDataModule"], "Did you mean vlm_lit.data.datamodule.Conv"),
        (["--dta.help"], "dta.help is not an option. Did you mean data.help?"),
        (["--data.trian.help"], "data.trian is not an option. Did you mean data.train?"),
    ],
)
def test_help_on_what_there_is_not(arguments: list[str], says: str, capsys: Capture) -> None:
    assert says in refusal(capsys, "fit", *arguments)


@pytest.mark.parametrize("verb", [*VERBS, "curate template", "study run", "study status", "study report"])
def test_every_verb_has_a_screen_of_help_with_an_example(verb: str, capsys: Capture) -> None:
    try:
        status: object = main([*verb.split(), "--help"])
    except SystemExit as stopped:
        status = stopped.code
    page = capsys.readouterr().out
    assert status == 0
    assert page.startswith(f"usage: python -m vlm_lit {verb}")
    assert len(page.splitlines()) <= (ALL_SETTINGS if verb in LIGHTNING_VERBS else ONE_SCREEN)
    assert max(map(len, page.splitlines())) <= 120
    if verb != "study":
        assert f"xample: python -m vlm_lit {EXAMPLES[verb]}" in page.replace("\n ", " ")


@pytest.mark.parametrize(
    ("program", "called"), [("/opt/bin/vlm_lit", "vlm_lit"), ("x/__main__.py", "python -m vlm_lit")]
)
def test_usage_fits_how_the_program_was_called(
    program: str, called: str, capsys: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "argv", [program])
    assert shown(capsys, "fit", "--help").startswith(f"usage: {called} fit ")
    assert shown(capsys, "--help").startswith(f"usage: {called} <verb>")
    with pytest.raises(SystemExit):
        main(["merge", "--help"])
    assert capsys.readouterr().out.startswith(f"usage: {called} merge ")


# Nothing heavy is imported for it ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "arguments",
    [
        ["fit", "--help"],
        ["fit", "--data.help"],
        ["test", "--trainer.help"],
        ["chat", "--help"],
        ["fit", "--config", "nowhere.yaml"],
        ["fit", "--run_dri", "x"],
        ["fit", "--model.learnin_rate", "1"],
        ["fit", "--model", "SupervisdModule"],
        ["inspect", "--trainer.max_epoch", "1"],
        ["budget", "--trainer.max_epoch", "1"],
        ["cache", "--trainer.max_epoch", "1"],
        ["verify", "--trainer.max_epoch", "1"],
    ],
)
def test_nothing_heavy_is_imported(arguments: list[str]) -> None:
    done = subprocess.run([sys.executable, "-c", PROBE, *arguments], capture_output=True, text=True, check=True)
    modules = json.loads(done.stdout.splitlines()[-1])
    assert not HEAVY & set(modules)


def test_a_reader_who_has_seen_enough_is_no_error() -> None:
    command = f"{sys.executable} -m vlm_lit fit --trainer.help | head -1"
    done = subprocess.run(["bash", "-c", command], capture_output=True, text=True, check=False)
    assert done.stdout == "vlm_lit.training.trainer.Trainer\n"
    assert done.stderr == ""
