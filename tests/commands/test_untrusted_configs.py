"""Tests of configs from strangers: none of them runs code, and no run gives a secret away."""

from __future__ import annotations

import dataclasses
import inspect
import types
import typing
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.support.refusals import edited, refusal, refused, run_dir
from vlm_lit.cli import main
from vlm_lit.data.datamodule import ConversationDataModule
from vlm_lit.training.supervised import SupervisedModule

Config = Callable[..., Path]
Capture = pytest.CaptureFixture[str]
SECRET = "hf_canaryDoNotWriteMeDown"


@pytest.fixture
def canary(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A file that exists as soon as any attack has worked: `canary_module` writes it when it is imported."""
    sung, modules = tmp_path / "canary", tmp_path / "modules"
    modules.mkdir()
    (modules / "canary_module.py").write_text(f"open({str(sung)!r}, 'w').close()\nclass Evil: pass\n")
    monkeypatch.syspath_prepend(str(modules))
    yield sung
    assert not sung.exists()


def attacks(sung: Path) -> list[dict[str, object]]:
    """Ways to name code that is not a config's to run."""
    return [
        {"class_path": "os.system", "init_args": {"command": f"touch {sung}"}},
        {"class_path": "subprocess.Popen", "init_args": {"args": ["touch", str(sung)]}},
        {"class_path": "canary_module.Evil"},
        {"class_path": "builtins.exec", "init_args": {"source": f"open({str(sung)!r}, 'w')"}},
        {"class_path": "torch.hub.load", "init_args": {"repo_or_dir": "x", "model": "y"}},
    ]


@pytest.mark.parametrize(
    "key",
    [
        *("model", "model.init_args.optimizer", "model.init_args.parts", "model.init_args.lora"),
        *("trainer.callbacks", "trainer.logger", "trainer.plugins", "trainer.profiler", "trainer.strategy"),
        *("data", "data.init_args.train"),
    ],
)
@pytest.mark.parametrize("many", [False, True])
def test_no_place_of_a_config_runs_foreign_code(
    key: str, many: bool, config: Config, canary: Path, capsys: Capture
) -> None:
    for attack in attacks(canary):
        refused(capsys, edited(config(), {key: [attack] if many else attack}))
        assert not canary.exists()


@pytest.mark.usefixtures("canary")
def test_the_refusal_says_what_was_named(config: Config, capsys: Capture) -> None:
    error = refused(capsys, edited(config(), {"model.class_path": "canary_module.Evil"}))
    assert "model.class_path names canary_module.Evil, which a config may not import." in error
    assert "VLM_LIT_ALLOW_IMPORTS=canary_module" in error
    assert "VLM_LIT_ALLOW_IMPORTS" not in refused(capsys, edited(config(), {"model.class_path": "os.system"}))


@pytest.mark.usefixtures("canary")
@pytest.mark.parametrize(
    "option", ["model", "trainer.logger", "trainer.callbacks", "model.optimizer", "trainer.profiler"]
)
def test_no_option_runs_foreign_code(option: str, config: Config, capsys: Capture) -> None:
    refused(capsys, config(), f"--{option}", "canary_module.Evil")


@pytest.mark.parametrize(
    "tag",
    [
        "object/apply:os.system ['touch {}']",
        "object/new:os.system ['touch {}']",
        "module:canary_module",
        "name:os.system",
    ],
)
def test_no_yaml_tag_runs_code(tag: str, config: Config, canary: Path, capsys: Capture) -> None:
    path = config()
    path.write_text(path.read_text() + f"ckpt_path: !!python/{tag.format(canary)}\n")
    error = refusal(capsys, "fit", "--config", str(path))
    assert f"{path}, line " in error
    assert "could not determine a constructor for the tag" in error


def test_own_packages_are_allowed_by_name(config: Config, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "own_package.py").write_text(
        "from vlm_lit.training.supervised import SupervisedModule\nclass Mine(SupervisedModule):\n    pass\n"
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setenv("VLM_LIT_ALLOW_IMPORTS", "another,own_package")
    path = edited(config(), {"model.class_path": "own_package.Mine"})
    with pytest.raises(SystemExit) as stopped:
        main(["fit", "--config", str(path), "--print_config"])
    assert stopped.value.code == 0


def loose(kind: object) -> bool:
    """Whether a type lets jsonargparse make whatever a config names: Any, object, a Callable that promises no class."""
    if kind in (typing.Any, object, Callable, typing.Callable):
        return True
    if typing.get_origin(kind) is Callable:
        made = typing.get_args(kind)[1]
        return not isinstance(made, type) or made in (typing.Any, object)
    return any(loose(part) for part in typing.get_args(kind) if part is not Ellipsis)


def settings_of(kind: object) -> Iterator[type]:
    for part in (kind, *typing.get_args(kind)):
        if dataclasses.is_dataclass(part) and isinstance(part, type):
            yield part


@pytest.mark.parametrize("root", [SupervisedModule, ConversationDataModule])
def test_no_signature_lets_a_config_choose_any_class(root: type) -> None:
    waiting, seen = [root], set[type]()
    for made in waiting:
        if made in seen:
            continue
        seen.add(made)
        for base in (made, *made.__mro__[1:]):  # what a constructor passes on is its bases'
            if "__init__" not in vars(base) or not base.__module__.startswith("vlm_lit"):
                continue
            made_by = vars(base)["__init__"]
            hints = typing.get_type_hints(made_by)
            parameters = list(inspect.signature(made_by).parameters.values())[1:]
            for name in (p.name for p in parameters if p.kind is not inspect.Parameter.VAR_KEYWORD):
                assert name in hints
                assert not loose(hints[name]), f"{base.__name__}.{name} is {hints[name]}"
                waiting.extend(settings_of(hints[name]))
            if all(p.kind is not inspect.Parameter.VAR_KEYWORD for p in parameters):
                break
    assert len(seen) > 1


@pytest.mark.parametrize(
    "kind", [typing.Any, object, Callable, Callable[..., typing.Any], list[typing.Any], int | object]
)
def test_what_counts_as_any_class(kind: object) -> None:
    assert loose(kind)
    assert not loose(int | None)
    assert not loose(dict[str, str])
    assert isinstance(int | None, types.UnionType)


def test_no_parameter_takes_a_secret() -> None:
    for root in (SupervisedModule, ConversationDataModule):
        assert not [
            name
            for name in inspect.signature(root).parameters
            if "token" in name.replace("tokens", "") or "key" in name
        ]


def test_a_secret_of_the_environment_is_in_no_file(config: Config, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("HF_TOKEN", "HUGGING_FACE_HUB_TOKEN", "WANDB_API_KEY"):
        monkeypatch.setenv(name, SECRET)
    path = config()
    for arguments in (["fit"], ["test", "--ckpt_path", "last"], ["validate"]):
        assert main([*arguments, "--config", str(path)]) == 0
    files = [file for file in run_dir(path).rglob("*") if file.is_file()]
    kinds = {file.suffix for file in files}
    assert {".yaml", ".json", ".jsonl", ".ckpt", ".safetensors", ".png"} <= kinds
    assert any("tfevents" in file.name for file in files)
    assert not [file for file in files if SECRET.encode() in file.read_bytes()]
