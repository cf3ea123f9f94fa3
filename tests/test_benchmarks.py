"""Tests of configs/benchmark/: each asks and judges as it says, and has a version that changes with both."""

from __future__ import annotations

import hashlib
import json
import re
from pathlib import Path
from typing import Any, Final

import pytest
import yaml

from tests.support.scored_anew import scored_anew
from tests.support.small_benchmarks import further_sources, write_benchmark
from tests.test_configs import CONFIGS, printed
from vlm_lit.cli import main

BENCHMARKS = sorted((CONFIGS / "benchmark").glob("*.yaml"))

VERSIONS: Final = {
    "ai2d": (2, "f63d26c54195f1f7"),
    "aokvqa": (2, "35308ed17c5e55d7"),
    "aokvqa_direct": (1, "767aa29a64d8d7b5"),
    "chartqa": (1, "afc201adc1efcb83"),
    "docvqa": (1, "88d296b4c28871a4"),
    "gqa": (1, "c69787ce47da40a0"),
    "mmmu": (1, "e2cdfd0740278e77"),
    "pope": (1, "0a459b8435377c27"),
    "scienceqa": (1, "45adf35663b324cc"),
    "textvqa": (1, "a9dc871ee78ab038"),
    "textvqa_ocr": (1, "d1dcc0637fa4c381"),
    "vizwiz": (1, "73817a696709f366"),
    "vqav2": (1, "f10b16d4d0821f22"),
}

WORD = "\nAnswer the question using a single word or phrase."
LETTER = "\nAnswer with the option's letter from the given choices directly."
ASKED: Final[dict[str, dict[str, Any]]] = {
    "ai2d": {
        "id": "1",
        "question": "What is 1?\nA. red\nB. green\nC. two" + LETTER,
        "references": ["C"],
        "groups": {},
        "choices": ["red", "green", "two"],
        "metric": "multiple_choice[extractor=mmmu]",
    },
    "aokvqa": {
        "id": "22jbM6gDxdaMaunuzgrsB1",
        "question": "Which is a lamp?\nA. red\nB. green\nC. blue\nD. two" + LETTER,
        "references": ["D"],
        "groups": {},
        "choices": ["red", "green", "blue", "two"],
        "metric": "multiple_choice[extractor=mmmu]",
    },
    "aokvqa_direct": {
        "id": "22jbM6gDxdaMaunuzgrsB1",
        "question": "Which is a lamp?" + WORD,
        "references": ["red", "red"],
        "groups": {"difficult_direct_answer": "false"},
        "metric": "aokvqa/difficult_direct_answer/false",
    },
    "chartqa": {
        "id": "1",
        "question": "lamp 1?\nAnswer the question with a single word.",
        "references": ["14"],
        "groups": {"human_or_machine": "machine"},
        "metric": "chartqa_relaxed/human_or_machine/human",
    },
    "docvqa": {
        "id": "49154",
        "question": "how many tools are on page 1?" + WORD,
        "references": ["two", "2"],
        "groups": {},
        "metric": "anls",
    },
    "gqa": {
        "id": "20136191",
        "image_id": "n161311",
        "question": "What colour is lamp 1?" + WORD,
        "references": ["red"],
        "groups": {"structural": "verify", "semantic": "attr", "detailed": "directOf"},
        "metric": "gqa[processor=llava]/form/binary",
    },
    "mmmu": {
        "id": "validation_Accounting_1",
        "question": "Beside , which is a lamp?\nA. red\nB. \nC. a lamp's light\n" + LETTER,
        "references": ["B"],
        "groups": {"question_type": "multiple-choice"},
        "choices": ["red", "<image 2>", "a lamp's light"],
        "metric": "mmmu[extractor=mmmu,fallback=random]/subject/Math",
    },
    "pope": {
        "id": "1",
        "image_id": "COCO_val2014_000000310196",
        "question": "Is there a lamp 1 in the image?" + WORD,
        "references": ["no"],
        "groups": {"category": "popular"},
        "metric": "pope/f1/mean_over_category",
    },
    "scienceqa": {
        "id": "1",
        "question": "Context: N/A\nWhich is a lamp?\nA. the red one\nB. the green one" + LETTER,
        "references": ["B"],
        "groups": {"subject": "natural science"},
        "choices": ["the red one", "the green one"],
        "metric": "multiple_choice[extractor=scienceqa_llava]",
    },
    "textvqa": {
        "id": "34603",
        "image_id": "003a8ae2ef43b901",
        "question": "what is on lamp 1?" + WORD,
        "references": ["red"] * 10,
        "groups": {},
        "metric": "textvqa",
    },
    "textvqa_ocr": {
        "id": "34602",
        "question": "what is on lamp 0?\nReference OCR token: LAMP, two" + WORD,
        "references": ["red"] * 10,
        "groups": {},
        "metric": "textvqa",
    },
    "vizwiz": {
        "id": "VizWiz_val_00000001.jpg",
        "question": "Which colour?\nWhen the provided information is insufficient, respond with 'Unanswerable'." + WORD,
        "references": ["red"] * 6 + ["unanswerable"] * 4,
        "groups": {"category": "other"},
        "metric": "vizwiz/category/other",
    },
    "vqav2": {
        "id": "262148001",
        "image_id": "262148",
        "question": "what colour is lamp 1?" + WORD,
        "references": ["red"] * 9 + ["blue"],
        "groups": {"answer_type": "other", "question_type": "what color"},
        "metric": "vqa_accuracy[prediction_processor=m4c]/other",
    },
}
"""One of the two questions of each small data set as the run writes it down, and a number that its results have."""


def settings_of(path: Path) -> dict[str, Any]:
    """What a file changes."""
    loaded: dict[str, Any] = yaml.safe_load(path.read_text())
    return loaded


def digest_of(path: Path) -> str:
    """Of what a file sets, whatever its comments and layout; a null only takes back what files below it set."""
    return hashlib.sha256(json.dumps(said(settings_of(path)), sort_keys=True).encode()).hexdigest()[:16]


def said(settings: object) -> object:
    """Settings without their nulls."""
    if not isinstance(settings, dict):
        return settings
    return {key: said(value) for key, value in settings.items() if value is not None}


@pytest.mark.parametrize("path", BENCHMARKS, ids=lambda p: p.stem)
def test_a_changed_benchmark_has_another_version(path: Path) -> None:
    stated = re.match(rf"# benchmark {path.stem}, version (\d+): \S", path.read_text())
    assert stated, f"{path} must begin with `# benchmark {path.stem}, version 1: ` and what it is."
    assert VERSIONS.get(path.stem) == (int(stated[1]), digest_of(path)), (
        f"The settings of {path} are not those of the version written here, so its numbers would change as well: "
        "raise the version in its first line, and write both here."
    )


def test_every_version_is_of_a_benchmark() -> None:
    assert list(VERSIONS) == [path.stem for path in BENCHMARKS] == list(ASKED)


@pytest.mark.slow(but_first=True)
@pytest.mark.parametrize("path", BENCHMARKS, ids=lambda p: p.stem)
def test_a_benchmark_says_all_there_is_to_say_about_its_questions(
    path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    # Laid over a config with columns and a system message of its own, of which nothing may be left.
    over = ["--config", str(CONFIGS / "smolvlm_chartqa_qlora.yaml"), "--config", str(path)]
    base, laid = printed(capsys, *over[:2]), printed(capsys, *over)
    asked = settings_of(path)
    for part in ("model", "data"):
        assert laid[part]["class_path"] == base[part]["class_path"]
        assert set(laid[part]["init_args"]) == set(base[part]["init_args"])
        assert "class_path" not in asked[part]
    data, model = laid["data"]["init_args"], laid["model"]["init_args"]
    test = asked["data"]["init_args"]["test"]
    assert data["test"] == {**test, "limit": None, "streaming": False, "placeholders": "slots"}
    assert (data["prompt"], data["system"]) == (asked["data"]["init_args"]["prompt"], None)
    assert model["max_new_tokens"] == asked["model"]["init_args"]["max_new_tokens"]
    assert model["metrics"] == [{"options": {}, **metric} for metric in asked["model"]["init_args"]["metrics"]]


@pytest.mark.slow(but_first=True)
@pytest.mark.parametrize("path", BENCHMARKS, ids=lambda p: p.stem)
def test_a_benchmark_is_run_on_the_columns_of_its_data_set_and_scored_anew_from_its_answers(
    path: Path, folders: dict[str, Path], tmp_path: Path
) -> None:
    configs = [CONFIGS / "llava15_7b_qlora.yaml", CONFIGS / "overlay" / "bf16_frozen.yaml", path]
    options = {
        "run_dir": tmp_path / "run",
        "model.init_args.model_id": folders["llava"],
        "data.init_args.test.path": write_benchmark(path.stem, tmp_path),
        **further_sources(path.stem, tmp_path),
        "data.init_args.num_workers": 0,
        "trainer.accelerator": "cpu",
        "trainer.devices": 1,
        "trainer.enable_progress_bar": False,
    }
    words = [f"--{name}={value}" for name, value in options.items()]
    assert main(["test", *(f"--config={config}" for config in configs), *words]) == 0
    expected = dict(ASKED[path.stem])
    results = json.loads((tmp_path / "run" / "results.json").read_text())
    assert results["n"] == 2
    assert expected.pop("metric") in results["metrics"]
    lines = map(json.loads, (tmp_path / "run" / "predictions.jsonl").read_text().splitlines())
    (found,) = (line for line in lines if line["id"] == expected["id"])
    assert {key: found[key] for key in expected} == expected
    assert ("choices" in found) == ("choices" in expected)
    metrics = settings_of(path)["model"]["init_args"]["metrics"]
    anew = {name: value for metric in metrics for name, value in scored_anew(tmp_path / "run", metric).items()}
    assert anew == pytest.approx(results["metrics"])
    assert found["image"] is not None
