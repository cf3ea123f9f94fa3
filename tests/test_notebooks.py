"""Tests of the notebooks: each runs in a kernel of its own and shows what it promises."""

from __future__ import annotations

import ast
import base64
import tempfile
from collections.abc import Iterator
from io import BytesIO
from pathlib import Path
from typing import Any

import nbformat
import pytest
from nbclient import NotebookClient
from PIL import Image
from traitlets.config import Config

FOLDER = Path(__file__).parent.parent / "notebooks"
NAMES = ("01_quickstart", "02_what_is_supervised", "03_a_study", "04_inside_an_adapter")
DEFINITIONS = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef, ast.Lambda)
MOST_CELLS = 12


def read(name: str) -> Any:
    """A notebook, checked against the format's schema."""
    book = nbformat.read(FOLDER / f"{name}.ipynb", as_version=4)  # type: ignore[no-untyped-call]
    nbformat.validate(book)
    return book


def code(book: Any) -> list[Any]:
    """Its code cells."""
    return [cell for cell in book.cells if cell.cell_type == "code"]


def executed(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, *, steps: int | None = None) -> Any:
    """The notebook after a run from its own folder, its temporary files in `tmp_path`; a failing cell raises."""
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.delenv("PYTEST_CURRENT_TEST", raising=False)  # a kernel that sees it shows no output of child processes
    if steps is not None:
        monkeypatch.setenv("VLM_LIT_NOTEBOOK_STEPS", str(steps))
    book = read(name)
    before = set(FOLDER.iterdir())
    # Sockets in files: the kernel opens no port. Their paths must be short, which tmp_path is not everywhere.
    with tempfile.TemporaryDirectory() as sockets:
        settings = Config({"KernelManager": {"transport": "ipc", "ip": f"{sockets}/kernel"}})
        resources = {"metadata": {"path": str(FOLDER)}}
        NotebookClient(book, config=settings, timeout=1200, resources=resources).execute()
    assert set(FOLDER.iterdir()) == before
    return book


def text(book: Any) -> str:
    """All that was printed."""
    outputs = [output for cell in code(book) for output in cell.outputs]
    return "".join(output.text for output in outputs if output.output_type == "stream")


def shown(book: Any, kind: str) -> list[str]:
    """What cells displayed in one MIME type."""
    outputs = [output for cell in code(book) for output in cell.outputs]
    return [output.data[kind] for output in outputs if kind in output.get("data", {})]


def pictures(book: Any) -> Iterator[Image.Image]:
    """The pictures that cells displayed, decoded."""
    for data in shown(book, "image/png"):
        with Image.open(BytesIO(base64.b64decode(data))) as image:
            yield image.convert("RGB")


def is_drawn(image: Image.Image) -> bool:
    """Whether there is more on it than an empty frame."""
    return len(image.getcolors(1 << 24) or ()) > 20


def test_these_are_all_the_notebooks() -> None:
    assert sorted(path.name for path in FOLDER.iterdir() if path.suffix) == [f"{name}.ipynb" for name in NAMES]


@pytest.mark.parametrize("name", NAMES)
def test_a_notebook_defines_nothing(name: str) -> None:
    """What deserves a definition deserves tests, and lies in the package."""
    for cell in code(read(name)):
        defined = [node for node in ast.walk(ast.parse(cell.source)) if isinstance(node, DEFINITIONS)]
        assert not defined, ast.unparse(defined[0])


@pytest.mark.parametrize("name", NAMES)
def test_a_notebook_is_committed_as_it_was_written(name: str) -> None:
    """No outputs, nothing of the machine it was written on."""
    book = read(name)
    for cell in code(book):
        assert (cell.outputs, cell.execution_count) == ([], None)
    assert all(cell.metadata == {} for cell in book.cells)
    assert book.metadata == {
        "kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"},
        "language_info": {"name": "python"},
    }


@pytest.mark.parametrize("name", NAMES)
def test_a_notebook_is_short_and_says_its_question_first(name: str) -> None:
    book = read(name)
    assert len(book.cells) <= MOST_CELLS
    assert book.cells[0].cell_type == "markdown"
    assert "?" in book.cells[0].source


@pytest.mark.slow
def test_the_quickstart_shows_a_model_that_learned(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    book = executed("01_quickstart", tmp_path, monkeypatch)
    assert "tuned ahead (only 24 images: no evidence)" in " ".join(text(book).split())
    one, before, after = pictures(book)
    assert is_drawn(one)
    assert is_drawn(before)
    assert is_drawn(after)
    assert before != after


@pytest.mark.slow
def test_the_page_of_what_is_supervised_holds_the_words(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    book = executed("02_what_is_supervised", tmp_path, monkeypatch)
    printed = text(book)
    assert "' a saw and a hammer'" in printed
    assert printed.count("end_of_turn") == 3
    (page,) = [html for html in shown(book, "text/html") if "srcdoc" in html]
    assert page.count("class=&quot;end&quot;") == 3 + 1  # one a turn, one in the legend
    assert "All is well." in page


@pytest.mark.slow
def test_the_study_has_its_table_and_figures(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    book = executed("03_a_study", tmp_path, monkeypatch, steps=6)
    printed = text(book)
    assert "small_ranks: 4 of 4 cells done" in printed
    assert "report.csv" in printed
    (page,) = [found for found in shown(book, "text/html") if "srcdoc" in found]
    assert "rank=r2" in page
    assert "rank=r32 (baseline)" in page
    assert "Rank 2 does as well as rank 32." in page
    assert page.count("data:image/svg+xml") == 2
    (cost,) = pictures(book)
    assert is_drawn(cost)


@pytest.mark.slow
def test_an_adapters_inside_is_drawn_and_listed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    book = executed("04_inside_an_adapter", tmp_path, monkeypatch, steps=4)
    rows = [line.split() for line in text(book).splitlines() if "_proj " in line]
    assert len(rows) == 28  # seven matrices in each of four layers
    for _, _, rank, norm, largest, stable_rank in rows:
        assert rank == "32"
        assert 0 < float(largest) <= float(norm)
        assert 1 <= float(stable_rank) <= 32
    norms, values = pictures(book)
    assert is_drawn(norms)
    assert is_drawn(values)
