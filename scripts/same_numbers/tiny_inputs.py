"""The tiny checkpoints and data of the jobs, made with the test helpers: `tiny_inputs.py ROOT OUTPUT NAME ...`."""

from __future__ import annotations

import importlib
import json
import sys
from pathlib import Path
from types import ModuleType


def helper(root: Path, file: str) -> ModuleType:
    """The module of a test helper, wherever below `tests/` it lies and by whichever name its own imports expect.

    Raises:
        ModuleNotFoundError: there is none, or it imports what is not there.
    """
    found = sorted((root / "tests").rglob(file))
    if len(found) != 1:
        raise ModuleNotFoundError(f"{len(found)} files below {root / 'tests'} end in {file}; one is needed.")
    parts = found[0].relative_to(root).with_suffix("").parts
    sys.path[:0] = [str(root.joinpath(*parts[:start])) for start in range(len(parts))]
    error: ImportError | None = None
    for start in range(len(parts)):  # tests.support.name, support.name, name
        try:
            return importlib.import_module(".".join(parts[start:]))
        except ImportError as this:
            error = error or this
    raise error or ModuleNotFoundError(file)


def make(root: Path, output: Path, name: str) -> None:
    """Write one input: data with several turns (`talks`) or with one (`questions`), or a tiny family's checkpoint."""
    if name not in ("talks", "questions"):
        helper(root, "tiny_families/catalogue.py").save(name, output / name)
        return
    write = helper(root, "small_data.py").write_conversations
    for split, rows in (("train", 24), ("val", 6), ("test", 9)):
        turns = 2 if name == "talks" and split == "train" else 1
        share_images(write(output / name, rows, turns=turns, prefix=split))


def share_images(path: Path) -> None:
    """Give every three records one image, so that there are rows to share."""
    rows = json.loads(path.read_text(encoding="utf-8"))
    for at, row in enumerate(rows):
        row.update({key: rows[at - at % 3][key] for key in ("image", "image_id")})
    path.write_text(json.dumps(rows), encoding="utf-8")


def main() -> None:
    """Make what is named."""
    root, output = Path(sys.argv[1]), Path(sys.argv[2])
    for name in sys.argv[3:]:
        (output / name).mkdir(parents=True)
        make(root, output, name)


if __name__ == "__main__":
    main()
