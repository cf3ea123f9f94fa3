"""Tests of what ranks share besides a step: the feature store and the reference's, each entry computed by one rank.

Two real processes over gloo against one, on steps whose ranks differ in all they have: one has the pictures, the other
conversations without any, or none at all.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor

from tests.support import loaded, plain_runs, rank_runs, small_config, small_data
from tests.support.pairs import preference_config, write_pairs
from tests.support.rank_runs import Job
from tests.support.runs import fit, predictions, run_dir, scalars
from vlm_lit.data.features import feature_store
from vlm_lit.data.images import images
from vlm_lit.data.preference_datamodule import PreferenceDataModule
from vlm_lit.data.rank_share import RankShare
from vlm_lit.data.records.sources import as_source
from vlm_lit.data.rows.pairs import PairBatch
from vlm_lit.schema import ImageRef
from vlm_lit.training.feature_cache import fill, open_store
from vlm_lit.training.ranks import Ranks
from vlm_lit.training.reference_store import ReferenceStore, filled

RANKS = ("--trainer.strategy=ddp", "--trainer.devices=2")


def on_two_ranks(verb: str, config: Path, folder: Path, *more: str) -> None:
    words = (verb, "--config", str(config), "--run_dir", str(folder), *RANKS, *more)
    rank_runs.finished(2, [Job(words=words)], folder.parent / f"{folder.name} said")


def stored(folder: Path) -> Counter[str]:
    """How often each image is in a store."""
    return Counter(
        name.partition("/")[0]
        for shard in folder.glob("*/*.safetensors")
        for name in load_file(shard)
        if name.endswith("/replacement")
    )


@pytest.fixture
def mixed(tmp_path: Path) -> Path:
    """Nine conversations: three about one picture, three about others, three without."""
    path = small_data.write_conversations(tmp_path, 9, turns=1, prefix="train")
    rows = json.loads(path.read_text())
    for k, row in enumerate(rows):
        if k % 3 == 0:
            row["image"] = rows[0]["image"]
        if k % 3 == 1:
            del row["image"], row["image_id"]
            row["conversations"][0]["value"] = row["conversations"][0]["value"].removeprefix("<image>\n")
    path.write_text(json.dumps(rows))
    small_data.write_conversations(tmp_path, 5, turns=1, prefix="val")
    return tmp_path


def test_a_rank_that_comes_late_computes_its_own_share_and_no_more(
    tiny_llava: Path, mixed: Path, tmp_path: Path
) -> None:
    path = small_config.write(tmp_path, tiny_llava, mixed, data={"feature_cache": str(tmp_path / "store")})
    data = plain_runs.data_of(path)
    data.setup("fit")
    model, family = loaded.adapted(tiny_llava)
    base = model.get_base_model()
    for rank in range(2):  # the second begins when the first has written all that it was to compute
        fill(open_store(data, base, family, "32-true"), data, base, family, say=lambda _: None, rank=rank, world=2)
    found = stored(tmp_path / "store")
    assert set(found.values()) == {1}
    # Nine conversations show four pictures, five questions five others of which four look alike.
    assert len(found) == len({p.read_bytes() for p in (mixed / "images").iterdir()} - _unseen(mixed))
    assert len(list((tmp_path / "store").glob("*/*.safetensors"))) == 2


def _unseen(folder: Path) -> set[bytes]:
    """The pictures that no record shows."""
    rows = [row for name in ("train", "val") for row in json.loads((folder / f"{name}.json").read_text())]
    shown = {(folder / row["image"]).read_bytes() for row in rows if "image" in row}
    return {path.read_bytes() for path in (folder / "images").iterdir()} - shown


@dataclass(frozen=True)
class Counted:
    """What lets each rank write down the image files that it reads for their digests, in a file of its own."""

    folder: Path

    @contextmanager
    def __call__(self, rank: int) -> Iterator[None]:
        """Count in one rank."""
        really = images.image_digest

        def digest(ref: ImageRef) -> str:
            with (self.folder / f"read_by_{rank}").open("a") as read:
                read.write(f"{ref.path}\n")
            return really(ref)

        vars(feature_store)["image_digest"] = digest
        try:
            yield
        finally:
            vars(feature_store)["image_digest"] = really


@pytest.mark.slow
def test_each_image_file_is_read_for_its_digest_by_one_rank(tiny_llava: Path, mixed: Path, tmp_path: Path) -> None:
    rows = json.loads((mixed / "train.json").read_text())
    for name, cut in (("good", False), ("cut", True)):
        place = tmp_path / name
        place.mkdir()
        data = {"feature_cache": str(place / "store"), "check_images": "none", "effective_batch": 4, "eval_batch": 2}
        path = small_config.write(place, tiny_llava, mixed, data=data)
        if cut:
            (mixed / rows[2]["image"]).unlink()
        words = ("fit", "--config", str(path), "--run_dir", str(place / "run"), *RANKS)
        job = Job(words=words, tampering=Counted(place), status=2 if cut else 0)
        if cut:
            rank_runs.typed(2, [job], place / "said", seconds=120)
            # Both say it: neither waits for one that has left.
            for rank in range(2):
                assert "no such file" in rank_runs.said(place / "said", rank)
            continue
        rank_runs.finished(2, [job], place / "said")
        read = [(place / f"read_by_{rank}").read_text().split() for rank in range(2)]
        assert all(read)
        every = Counter(read[0] + read[1])
        shown = {str(mixed / row["image"]) for row in rows if "image" in row}
        assert shown < set(every)
        assert set(every.values()) == {1}
        assert set(stored(place / "store").values()) == {1}


@pytest.mark.slow
def test_ranks_with_and_without_pictures_are_one(tiny_llava: Path, mixed: Path, tmp_path: Path) -> None:
    path = small_config.write(
        tmp_path,
        tiny_llava,
        mixed,
        model={"optimizer": {"class_path": "torch.optim.SGD"}, "learning_rate": 0.05},
        data={"effective_batch": 4, "eval_batch": 2, "feature_cache": str(tmp_path / "store")},
    )
    fit(path, "--run_dir", str(tmp_path / "one"), f"--data.init_args.feature_cache={tmp_path / 'one store'}")
    on_two_ranks("fit", path, tmp_path / "two")
    one, two = scalars(tmp_path / "one"), scalars(tmp_path / "two")
    for name in ("train/loss", "train/gradient_norm", "val/loss"):
        # float32 sums in another order: 1e-5 is some 80 rounding steps.
        assert [v for _, v in two[name]] == pytest.approx([v for _, v in one[name]], rel=1e-5, abs=1e-6), name
    weights = [load_file(tmp_path / name / "adapter" / "adapter_model.safetensors") for name in ("one", "two")]
    for name, expected in weights[0].items():
        torch.testing.assert_close(weights[1][name], expected, rtol=1e-5, atol=1e-5 * float(expected.abs().max()))
    # The last step has one conversation, so one rank has twice the mean; one rank alone is as far as itself.
    spread = dict(two["train/rank_spread"])
    assert spread[2] == 1.0
    assert all(0 <= value <= 1 for value in spread.values())
    assert "train/rank_spread" not in one
    found = stored(tmp_path / "store")
    assert found == stored(tmp_path / "one store")
    assert set(found.values()) == {1}


@pytest.mark.slow
def test_ranks_fill_the_reference_store_each_its_share(tiny_llava: Path, tmp_path: Path) -> None:
    write_pairs(tmp_path, 11, prefix="train", per_image=2)
    write_pairs(tmp_path, 3, prefix="val")
    path = preference_config(
        tmp_path,
        tiny_llava,
        tmp_path,
        model={"optimizer": {"class_path": "torch.optim.SGD"}, "learning_rate": 0.05},
        data={"effective_batch": 4},
    )
    kept = {}
    for name in ("one", "two"):
        store = f"--model.init_args.reference_store={tmp_path / name / 'store'}"
        if name == "one":
            fit(path, "--run_dir", str(tmp_path / name / "run"), store)
        else:
            on_two_ranks("fit", path, tmp_path / name / "run", store)
        kept[name] = [json.loads(file.read_text())["log_probs"] for file in (tmp_path / name / "store").iterdir()]
    (one,), (two,) = kept.values()
    assert one.keys() == two.keys()
    assert len(one) == 13  # eleven pairs and three, of which one is one of the eleven
    assert all(two[key] == pytest.approx(one[key], rel=1e-5) for key in one)
    losses = [[v for _, v in scalars(tmp_path / name / "run")["train/loss"]] for name in ("one", "two")]
    assert losses[1] == pytest.approx(losses[0], rel=1e-5, abs=1e-6)


def test_a_rank_that_reads_late_asks_the_reference_about_its_own_share_and_no_more(
    tiny_llava: Path, tmp_path: Path
) -> None:
    data = PreferenceDataModule(str(tiny_llava), train=as_source(str(write_pairs(tmp_path, 11)), "data.train"))
    data.setup("fit")
    pairs: Any = data.datasets["train"]
    collator = data.pair_collator("train")
    store, asked = ReferenceStore(tmp_path / "store", {"of": "this test"}), list[str]()

    def reference(batch: PairBatch) -> Tensor:
        asked.extend(name.removesuffix("/chosen") for name in batch.ids if name.endswith("/chosen"))
        return torch.zeros(len(batch.ids))

    for rank in range(2):  # the second begins when the first has kept all that it was asked for
        ranks = Ranks(RankShare(rank, 2))
        filled(store, pairs, collator, reference, device=torch.device("cpu"), say=lambda _: None, ranks=ranks)
    assert sorted(asked, key=int) == [str(k) for k in range(11)]
    assert len(store.read()) == 6  # the first rank keeps what it was told, and here nobody told it anything


def test_answers_of_ranks_that_have_unequal_shares_are_in_the_files_order(
    tiny_llava: Path, mixed: Path, tmp_path: Path
) -> None:
    # Four questions about one picture and three about others: one rank is asked the first four.
    rows = json.loads((mixed / "val.json").read_text())
    rows += [{**rows[0], "id": f"again{k}"} for k in range(2)]
    rows = [rows[0], *rows[5:], *rows[1:5]]
    (mixed / "val.json").write_text(json.dumps(rows))
    path = small_config.write(tmp_path, tiny_llava, mixed, data={"eval_batch": 4})
    on_two_ranks("test", path, run_dir(path))
    assert [row["id"] for row in predictions(run_dir(path))] == [row["id"] for row in rows]
