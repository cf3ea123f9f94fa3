"""The comparison of two commits by their numbers: differences are named, and nothing compared is no "same"."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch.utils.tensorboard.writer import SummaryWriter

sys.path.insert(0, str(Path(__file__).parents[2] / "scripts" / "same_numbers"))

from commit_tree import SameNumbersError, checked_out, commit_name, git, run_code
from number_records import Record
from run_numbers import KINDS, digest, run_numbers
from same_jobs import JOBS, known_keys, located, nested
from same_numbers import main
from tiny_inputs import helper


def write_run(
    home: Path,
    *,
    loss: float = 0.1,
    speed: float = 3.0,
    weight: float = 1.0,
    dtype: torch.dtype = torch.bfloat16,
    answer: str = "red",
    score: float = 0.5,
) -> dict[str, list[str]]:
    """The numbers of a run directory with these figures."""
    run = home / "runs" / "job"
    with SummaryWriter(str(run)) as writer:
        for step in range(3):
            writer.add_scalar("train/loss", loss if step == 1 else 2.0, step)
            writer.add_scalar("watch/samples_per_second", speed, step)
    (run / "adapter").mkdir()
    save_file({"a": torch.zeros(2), "b": torch.full((2, 3), weight, dtype=dtype)}, run / "adapter/model.safetensors")
    (run / "predictions.jsonl").write_text(f'{{"image": "{home}/x.png", "prediction": "{answer}"}}\n')
    results = {"metrics": {"accuracy": score}, "versions": {"torch": str(speed)}, "weights": {"file": f"{home}/last"}}
    (run / "results.json").write_text(json.dumps(results))
    return run_numbers(run, home)


def write_record(path: Path, **changes: object) -> Path:
    """A record of one job, `llava`."""
    usual = {
        "commit": path.stem,
        "machine": {"torch": "2.13"},
        "inputs": {"llava": "a"},
        "jobs": {"llava": {kind: [f"{kind} {i} {i / 7!r}" for i in range(20)] for kind in KINDS}},
    }
    path.write_text(Record(**{**usual, **changes}).to_json())  # type: ignore[arg-type]
    return path


def test_runs_elsewhere_and_at_another_speed_have_the_same_numbers(tmp_path: Path) -> None:
    first, second = write_run(tmp_path / "here"), write_run(tmp_path / "elsewhere", speed=4.0)
    assert first == second
    assert first["losses"][1] == "train/loss 1 0.10000000149011612"  # the float32 of the file, to its last bit
    assert [line.split()[:3] for line in first["adapter"]] == [
        ["model.safetensors", "a", "torch.float32"],
        ["model.safetensors", "b", "torch.bfloat16"],
    ]
    assert first["predictions"][0] == '{"image": "./x.png", "prediction": "red"}'


@pytest.mark.parametrize(("kind", "change"), [
    ("losses", {"loss": 0.1 + 1e-8}),
    ("adapter", {"weight": 1.0078125}),  # the next bfloat16
    ("adapter", {"dtype": torch.float16}),
    ("predictions", {"answer": "red "}),
    ("results", {"score": 0.5 + 2**-53}),
])  # fmt: skip
def test_the_smallest_change_is_seen_where_it_is(kind: str, change: dict[str, object], tmp_path: Path) -> None:
    before, after = write_run(tmp_path / "a"), write_run(tmp_path / "b", **change)  # type: ignore[arg-type]
    assert [k for k in KINDS if before[k] != after[k]] == [kind]


@pytest.mark.parametrize("name", ["adapter/model.safetensors", "predictions.jsonl", "results.json"])
def test_a_run_without_a_file_has_no_numbers(name: str, tmp_path: Path) -> None:
    write_run(tmp_path)
    (tmp_path / "runs" / "job" / name).unlink()
    with pytest.raises(FileNotFoundError):
        run_numbers(tmp_path / "runs" / "job", tmp_path)


def test_two_records_that_agree(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    files = [str(write_record(tmp_path / f"{name}.json")) for name in ("before", "after")]
    assert main([*files, "--table", str(tmp_path / "table.json")]) == 0
    header, row = capsys.readouterr().out.splitlines()[:2]
    assert header.split() == ["job", *KINDS]
    assert row.split() == ["llava", *["same", "(20)"] * 4]
    assert json.loads((tmp_path / "table.json").read_text())["same"] is True


def test_what_differs_is_named_with_its_first_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = write_record(tmp_path / "before.json")
    jobs = json.loads(before.read_text())["jobs"]
    jobs["llava"]["predictions"][7] = "x" * 500 + "new"
    del jobs["llava"]["results"][-1]
    after = write_record(tmp_path / "after.json", jobs=jobs, machine={"torch": "2.14"})
    assert main([str(before), str(after), "--table", str(tmp_path / "table.json")]) == 1
    said = capsys.readouterr().out
    assert said.splitlines()[1].split() == ["llava", "same", "(20)", "same", "(20)", "differs", "differs"]
    assert "llava, predictions, line 8\n  before: predictions 7 1.0\n  after:  xxx" in said
    assert "llava, results, line 20\n  before: results 19 2.7142857142857144\n  after:  (no such line)" in said
    assert "Recorded elsewhere, which alone can change numbers: torch 2.13, now 2.14" in said
    table = json.loads((tmp_path / "table.json").read_text())
    assert table["same"] is False
    assert {kind: found["line"] for kind, found in table["jobs"]["llava"].items()} == {
        "losses": None, "adapter": None, "predictions": 8, "results": 20,
    }  # fmt: skip


def test_a_job_that_failed_on_both_sides_is_not_the_same(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    jobs = {"llava": {"failed": ["fit ended with 1:", "error: no such key"]}}
    files = [str(write_record(tmp_path / f"{name}.json", jobs=jobs)) for name in ("before", "after")]
    assert main(files) == 1
    said = capsys.readouterr().out
    assert said.splitlines()[1].split() == ["llava", *["failed"] * 4]
    assert said.count("error: no such key") == 2


def test_what_cannot_be_compared_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = str(write_record(tmp_path / "before.json"))
    other = str(write_record(tmp_path / "other.json", inputs={"llava": "b"}))
    (tmp_path / "broken.json").write_text("{")
    refused = {
        (before, other): "The tiny inputs llava of the recorded runs are not those",
        (before, before, "--jobs", "qwen"): "The record has no job qwen. It has llava",
        (before, before, "--jobs", "qwne"): "--jobs qwne is none. There are quickstart, ",
        (before, str(tmp_path / "broken.json")): "broken.json is no file written by --record",
        (before,): "Name a second commit",
    }
    for words, said in refused.items():
        assert main(words) == 2
        assert said in capsys.readouterr().err


def test_a_key_is_found_where_the_commit_has_it() -> None:
    printed = "model: {init_args: {rows: {limit: 1, lora: {rank: 2}}, lr: 3}}\ndata: {a: {limit: 1}, b: {limit: 1}}"
    known = known_keys(printed)
    assert located("model.init_args.lr", known, {}) == "model.init_args.lr"
    assert located("model.init_args.lora.rank", known, {}) == "model.init_args.rows.lora.rank"
    assert (
        located("model.init_args.rate", known, {"model.init_args.rate": "model.init_args.lr"}) == "model.init_args.lr"
    )
    with pytest.raises(SameNumbersError, match=r"no key model\.init_args\.rate; it has nothing of that name"):
        located("model.init_args.rate", known, {})
    with pytest.raises(SameNumbersError, match=r"it has data\.a\.limit and data\.b\.limit\. Say which it is: --key"):
        located("data.limit", known, {})
    assert nested({"a.b": 1, "a.c.d": 2, "e": 3}) == {"a": {"b": 1, "c": {"d": 2}}, "e": 3}


def test_the_shipped_configs_have_every_key_of_every_job(capsys: pytest.CaptureFixture[str]) -> None:
    from vlm_lit.cli import main as vlm_lit

    config = Path(__file__).parents[2] / "configs" / "quickstart.yaml"
    with pytest.raises(SystemExit, match="0"):
        vlm_lit(["fit", "--config", str(config), "--print_config"])
    known = known_keys(capsys.readouterr().out)
    for job in JOBS.values():
        for key in job.settings:
            located(key, known, {})


@pytest.mark.parametrize(("folder", "imports"), [
    ("", "from words_of_this import WORD"),
    ("of_that", "from tests.of_that.words_of_this import WORD"),
    ("of_those/there", "from .words_of_this import WORD"),
])  # fmt: skip
def test_a_test_helper_is_found_wherever_it_lies(folder: str, imports: str, tmp_path: Path) -> None:
    place = tmp_path / "tests" / folder
    place.mkdir(parents=True)
    (place / "words_of_this.py").write_text("WORD = 7\n")
    (place / "builder_of_this.py").write_text(imports + "\n")
    script = f"import sys; sys.path.insert(0, {str(Path(helper.__code__.co_filename).parent)!r})\n"
    script += "from pathlib import Path; from tiny_inputs import helper\n"
    script += f"print(helper(Path({str(tmp_path)!r}), 'builder_of_this.py').WORD)"
    assert run_code(tmp_path, tmp_path, ["-c", script]) == "7\n"
    with pytest.raises(ModuleNotFoundError, match="0 files below"):
        helper(tmp_path, "no_such_builder.py")


def test_a_commit_is_checked_out_and_the_worktree_is_gone_after_an_error(tmp_path: Path) -> None:
    root = tmp_path / "repository"
    root.mkdir()
    for words in (["init", "--quiet"], ["config", "user.name", "n"], ["config", "user.email", "e@example.org"]):
        subprocess.run(["git", *words], cwd=root, check=True)
    (root / "a.py").write_text("print('committed')")
    git(root, "add", "a.py")
    git(root, "commit", "--quiet", "-m", "one")
    (root / "a.py").write_text("print('changed')")
    tree = tmp_path / "tree"
    with checked_out(root, "HEAD", tree):
        assert run_code(tree, tree, ["a.py"]) == "committed\n"
    with pytest.raises(SameNumbersError, match="ended with 1"), checked_out(root, "HEAD", tree):
        run_code(tree, tree, ["-c", "import nothing_of_this_name"])
    assert not tree.exists()
    assert len(git(root, "worktree", "list").splitlines()) == 1
    with checked_out(root, ".", tree) as stands:
        assert run_code(stands, stands, ["a.py"]) == "changed\n"
    assert commit_name(root, ".") == commit_name(root, "HEAD") + "+"
    with pytest.raises(SameNumbersError, match="none"):
        commit_name(root, "none")
    with pytest.raises(SameNumbersError, match=r"ended with 3:\nwhy"):
        run_code(root, root, ["-c", "import sys; print('why'); sys.exit(3)"])


def test_a_digest_tells_names_and_bytes(tmp_path: Path) -> None:
    found = set()
    for name, text in (("a", "1"), ("b", "1"), ("a", "2")):
        folder = tmp_path / f"{name}{text}" / "x"
        folder.mkdir(parents=True)
        (folder / name).write_text(text)
        found.add(digest(folder.parent))
    assert len(found) == 3
