"""Tests of study files: read as they stand, each mistake named with its place and the remedy."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from vlm_lit.errors import ConfigError
from vlm_lit.studies.running.study_file import Published, Range, Search, StudyClaim, read_study

CONFIGS = Path(__file__).parents[2] / "configs"

CLAIM = {
    "says": "Small ranks suffice.", "source": "LoRA, table 6", "better": {"rank": 64}, "than": {"rank": 4},
    "kind": "equal", "margin": 0.02,
}  # fmt: skip
CONTENT: dict[str, Any] = {
    "name": "ranks",
    "config": ["base.yaml"],
    "folder": "runs/ranks",
    "metric": "vqa_accuracy",
    "factors": {
        "rank": {"key": "model.init_args.lora.rank", "values": [4, 64]},
        "precision": {
            "levels": {"nf4": {"config": "over.yaml", "set": {"model.init_args.x": [1]}}, True: {"config": []}}
        },
    },
    "seeds": [0, 7],
    "baseline": {"precision": True, "rank": 4},
    "set": {"trainer.max_epochs": 2},
    "claims": [CLAIM],
    "published": [{"cell": {"rank": 4}, "value": 0.73, "what": "WikiSQL", "source": "LoRA"}],
}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name in ("base.yaml", "over.yaml"):
        (tmp_path / name).write_text("trainer: {max_epochs: 1}\n")
    return tmp_path


def written(folder: Path, **changes: object) -> Path:
    """A study file with changes; `...` takes an entry out."""
    content = {key: value for key, value in {**CONTENT, **changes}.items() if value is not ...}
    path = folder / "ranks.yaml"
    path.write_text(yaml.safe_dump(content, sort_keys=False))
    return path


def test_a_study_is_read_as_it_stands(folder: Path) -> None:
    study = read_study(written(folder))
    assert study.configs == (folder / "base.yaml",)
    assert [(f.name, [level.name for level in f.levels]) for f in study.factors] == [
        ("rank", ["4", "64"]), ("precision", ["nf4", "true"])
    ]  # fmt: skip
    assert study.factor("rank").level("64").settings == {"model.init_args.lora.rank": 64}
    nf4 = study.factor("precision").level("nf4")
    assert (nf4.configs, nf4.settings) == ((folder / "over.yaml",), {"model.init_args.x": [1]})
    assert study.baseline == {"rank": "4", "precision": "true"}
    assert (study.seeds, study.folder, study.settings) == ((0, 7), Path("runs/ranks"), {"trainer.max_epochs": 2})
    assert study.claims == (
        StudyClaim(
            says="Small ranks suffice.", source="LoRA, table 6", better={"rank": "64"}, than={"rank": "4"},
            kind="equal", margin=0.02,
        ),
    )  # fmt: skip
    assert study.published == (Published(cell={"rank": "4"}, value=0.73, what="WikiSQL", source="LoRA"),)
    assert study.search is None


def test_a_search_is_read(folder: Path) -> None:
    ranges = {"lr": {"low": 1e-4, "high": 1e-2, "log": True}, "rank": {"low": 1, "high": 8}}
    search = {"sampler": "tpe", "trials": 20, "ranges": ranges}
    study = read_study(written(folder, search=search, factors=..., baseline=..., claims=..., published=...))
    assert study.search == Search(
        sampler="tpe",
        trials=20,
        ranges={
            "lr": Range(low=1e-4, high=1e-2, log=True, whole=False),
            "rank": Range(low=1.0, high=8.0, log=False, whole=True),
        },
    )
    assert (study.factors, study.baseline) == ((), {})


def test_an_exponent_without_a_point_is_a_number(folder: Path) -> None:
    path = written(folder)
    path.write_text(path.read_text().replace("- 64", "- 1e-4").replace("64", "1e-4"))
    assert read_study(path).factor("rank").level("0.0001").settings == {"model.init_args.lora.rank": 1e-4}


RANK = CONTENT["factors"]["rank"]
PRECISION = CONTENT["factors"]["precision"]
MISTAKES: list[tuple[dict[str, Any], str]] = [
    ({"sedes": [1]}, "sedes is no key. Did you mean seeds?"),
    ({"name": ...}, "name is missing. Add it."),
    ({"name": "a/b"}, "name is 'a/b'. Names are letters"),
    ({"config": "bas.yaml"}, "config names bas.yaml, which is not there. Did you mean base.yaml?"),
    ({"config": []}, "config is []. It must be a config file, or a list of them."),
    ({"factors": {"rank": {**RANK, "values": [4, 4]}}}, "factors.rank.values has the level 4 twice"),
    ({"factors": {"rank": {**RANK, "values": [4]}}}, "factors.rank has 1 level"),
    ({"factors": {"rank": {**RANK, "values": [[4], 5]}}}, "Give lists and mappings names, under levels."),
    ({"factors": {"rank": {**RANK, "levels": {}}}}, "must have either key and values, or levels"),
    ({"factors": {"seed": RANK}}, "factors.seed is no factor. Seeds have a list of their own: seeds."),
    ({"factors": {"rank": {"key": "run_dir", "values": [1, 2]}}}, "sets run_dir, which each cell has its own of."),
    (
        {"factors": {"rank": RANK, "again": RANK}, "baseline": {"rank": 4, "again": 4}},
        "sets model.init_args.lora.rank in rank and in again",
    ),
    ({"set": {"model.init_args.lora.rank": 2}}, "sets model.init_args.lora.rank in rank and in set"),
    ({"set": {"--rank": 2}}, "set has '--rank'. A setting is a dotted key"),
    (
        {"factors": {"precision": {"levels": {"a": {"sets": {}}, "b": {}}}}},
        "precision.levels.a.sets is no key. Did you",
    ),
    ({"seeds": [0, 0]}, "seeds is [0, 0]. Give different whole numbers"),
    ({"seeds": [True]}, "seeds is [True]"),
    ({"seeds": []}, "seeds is []"),
    ({"baseline": {"rank": 4}}, "baseline lacks precision. It names a level of every factor."),
    ({"baseline": {"rank": 6, "precision": "nf4"}}, "baseline.rank is 6, which is no level."),
    ({"baseline": {"rnak": 4, "precision": "nf4"}}, "baseline.rnak is no factor. Did you mean rank?"),
    ({"claims": [{**CLAIM, "than": {"rank": 46}}]}, "claims[0].than.rank is 46, which is no level. Did you mean 4?"),
    ({"claims": [{**CLAIM, "than": {"precision": "nf4"}}]}, "claims[0].better and than must give the same factors"),
    ({"claims": [{**CLAIM, "than": {"rank": 64}}]}, "claims[0].better and than must give the same factors"),
    ({"claims": [{**CLAIM, "kind": "grater"}]}, "claims[0].kind is grater, which is no kind. Did you mean greater?"),
    ({"claims": [{**CLAIM, "margin": 2}]}, "claims[0].margin is 2. It must be a number from 0 to 1."),
    ({"claims": [{key: CLAIM[key] for key in CLAIM if key != "margin"}]}, "claims[0].margin is missing"),
    ({"search": {"sampler": "tpe", "trials": 0, "ranges": {}}}, "search.trials is 0. It must be a whole number from 1"),
    (
        {"search": {"sampler": "tpe", "trials": 2, "ranges": {"x": {"low": 0, "high": 1, "log": True}}}},
        "search.ranges.x.low is 0.0 and high is 1.0.",
    ),
    ({"factors": ...}, "factors has none. Name what is varied and its levels."),
]


@pytest.mark.parametrize(("changes", "said"), MISTAKES, ids=[said[:40] for _, said in MISTAKES])
def test_a_mistake_is_named_with_its_remedy(changes: dict[str, Any], said: str, folder: Path) -> None:
    if "factors" in changes and changes["factors"] is not ...:
        changes = {"baseline": {}, "claims": ..., "published": ..., **changes}
    path = written(folder, **changes)
    with pytest.raises(ConfigError) as refused:
        read_study(path)
    assert str(refused.value).startswith(f"{path}: ")
    assert said in str(refused.value)


def test_a_key_that_stands_there_twice_is_refused(folder: Path) -> None:
    path = written(folder)
    path.write_text(path.read_text() + "name: other\n")
    with pytest.raises(ConfigError, match="the key name stands there a second time"):
        read_study(path)


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="the study file cannot be read"):
        read_study(tmp_path / "none.yaml")


@pytest.mark.parametrize("path", sorted((CONFIGS / "study").glob("*.yaml")), ids=lambda path: str(path.stem))
def test_ours_are_read(path: Path) -> None:
    assert read_study(path).name == path.stem
