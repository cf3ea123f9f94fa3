"""Finding of the picture file that a row's path means, among the files that are there."""

from __future__ import annotations

import filecmp
import os
import posixpath
import unicodedata
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Final

from vlm_lit.curation.path_words import is_absolute, is_url, other_spellings, plain_path
from vlm_lit.data.images.image_paths import ImageProblem
from vlm_lit.errors import ConfigError

_ENDINGS: Final = (".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".webp", ".bmp", ".gif", ".tif", ".tiff")
_JPEG: Final = (".jpg", ".jpeg", ".jpe", ".jfif")


@dataclass(frozen=True, kw_only=True)
class FoundFile:
    """A picture file: its folder of those that were given, its path in there, and what was changed in its name."""

    folder: Path
    name: str
    changes: tuple[str, ...] = ()

    @property
    def path(self) -> Path:
        """The file."""
        return self.folder / self.name


class PictureFolder:
    """The files below a folder, by their names and by what may be written for these.

    Args:
        folder: which one.
        without: a folder that is left out.
    """

    def __init__(self, folder: Path, without: Path | None = None) -> None:
        self.folder = folder
        self.names: set[str] = set()
        self._loose: dict[str, list[str]] = {}
        self._stems: dict[str, list[str]] = {}
        for name in _files_below(folder, without):
            self.names.add(name)
            key = _loose_key(name)
            self._loose.setdefault(key, []).append(name)
            stem, ending = posixpath.splitext(key)
            if ending in _ENDINGS:
                self._stems.setdefault(stem, []).append(name)

    def alike(self, path: str) -> tuple[list[str], str]:
        """The files whose names differ in case or Unicode form, else in the ending alone; and the difference's name."""
        key = _loose_key(path)
        if found := self._loose.get(key):
            same_letters = unicodedata.normalize("NFC", path) == unicodedata.normalize("NFC", found[0])
            return found, "unicode" if same_letters else "case"
        stem, ending = posixpath.splitext(key)
        found = self._stems.get(key, []) if ending not in _ENDINGS else self._stems.get(stem, [])
        jpeg = [name for name in found if posixpath.splitext(name)[1].lower() in _JPEG] if ending in _JPEG else []
        return jpeg or found, "extension"


def _files_below(folder: Path, without: Path | None) -> list[str]:
    found: list[str] = []
    seen: set[str] = set()
    for place, folders, files in os.walk(folder, followlinks=True):
        real = os.path.realpath(place)
        if real in seen or (without is not None and Path(real) == without):
            folders.clear()
            continue
        seen.add(real)
        folders.sort()
        base = Path(place).relative_to(folder).as_posix()
        found += [name if base == "." else f"{base}/{name}" for name in sorted(files)]
    return found


def _loose_key(path: str) -> str:
    return unicodedata.normalize("NFC", unicodedata.normalize("NFC", path).casefold())


class ImageFinder:
    """Where pictures are: the folders that were given, and each source's own.

    Args:
        folders: those given, in this order; none for each source's own alone.
        prefixes: beginnings of other machines' paths, and what stands for each here.
        without: a folder that is left out: the one that is written.

    Raises:
        ConfigError: one of the folders is not there.
    """

    def __init__(self, folders: Sequence[Path], prefixes: Mapping[str, str], without: Path | None = None) -> None:
        for folder in folders:
            if not folder.is_dir():
                raise ConfigError(f"--images {folder}: there is no such folder. Correct the path.")
        self.given = [PictureFolder(folder.absolute(), without) for folder in folders]
        self.prefixes, self._without = prefixes, without
        self._own: dict[Path, PictureFolder] = {}
        self._answers: dict[tuple[str, Path], FoundFile | ImageProblem] = {}

    def find(self, text: str, own: Path) -> FoundFile:
        """The file that a path means.

        Args:
            text: as the row has it.
            own: the folder of the row's file.

        Raises:
            ImageProblem: no file, several, or an address on a network.
        """
        asked = (text, own)
        if asked not in self._answers:
            try:
                self._answers[asked] = self._find(text, own.absolute())
            except ImageProblem as problem:
                self._answers[asked] = problem
        found = self._answers[asked]
        if isinstance(found, ImageProblem):
            raise found
        return found

    def _find(self, text: str, own: Path) -> FoundFile:
        _check_text(text)
        path, changes = plain_path(text, self.prefixes)
        if is_url(path):
            remedy = "Save it as a file, or say by --prefix what folder stands for the address's beginning."
            raise ImageProblem(f"{text[:80]!r} is an address on a network", remedy=remedy, code="path.url")
        folders = [*self.given, *([] if self.given else [self._own_folder(own)])]
        for name, spelling in [("", path), *other_spellings(path)]:
            if found := self._exact(spelling, own, folders) or self._alike(spelling, text, own, folders):
                return FoundFile(
                    folder=found.folder,
                    name=found.name,
                    changes=tuple(dict.fromkeys([*changes, *([name] if name else []), *found.changes])),
                )
        raise self._not_found(text, path, folders)

    def _own_folder(self, own: Path) -> PictureFolder:
        if own not in self._own:
            self._own[own] = PictureFolder(own, self._without)
        return self._own[own]

    def _exact(self, path: str, own: Path, folders: Sequence[PictureFolder]) -> FoundFile | None:
        found: list[FoundFile] = []
        for folder in folders:
            inner, changes = self._within(path, own, folder)
            found += [
                FoundFile(folder=folder.folder, name=name, changes=changes if name == inner[0] else ("folder_name",))
                for name in inner
                if name in folder.names
            ][:1]
        if not found and self.given and not is_absolute(path) and (own / path).is_file() and not path.startswith(".."):
            return FoundFile(folder=own, name=path)
        return _one(path, found) if found else None

    def _alike(self, path: str, text: str, own: Path, folders: Sequence[PictureFolder]) -> FoundFile | None:
        found: list[FoundFile] = []
        for folder in folders:
            for name in self._within(path, own, folder)[0]:
                names, change = folder.alike(name)
                if names:
                    found += [FoundFile(folder=folder.folder, name=one, changes=(change,)) for one in names]
                    break
        return _one(text, found) if found else None

    def _within(self, path: str, own: Path, folder: PictureFolder) -> tuple[list[str], tuple[str, ...]]:
        """What the path may be called in the folder: as it is, or without the folder's own name before it."""
        base = folder.folder.as_posix()
        if is_absolute(path):
            inner = [path[len(base) :].lstrip("/")] if path.startswith(f"{base}/") else []
            return inner, ("absolute",)
        if path.startswith(".."):
            whole = posixpath.normpath(f"{own.as_posix()}/{path}")
            return ([whole[len(base) :].lstrip("/")] if whole.startswith(f"{base}/") else []), ()
        first, _, rest = path.partition("/")
        return [path, *([rest] if rest and first.casefold() == folder.folder.name.casefold() else [])], ()

    def _not_found(self, text: str, path: str, folders: Sequence[PictureFolder]) -> ImageProblem:
        if not is_absolute(path):
            remedy = "Give its folder by --images, or take the row out."
            if path.startswith(".."):
                return ImageProblem(f"{text!r} leads out of the folders", remedy=remedy, code="path.outside_root")
            return ImageProblem(f"there is no file {text!r}", remedy=remedy, code="image.missing")
        parts = PurePosixPath(path).parts
        for k in range(1, len(parts)):
            tail = "/".join(parts[k:])
            if any(tail in folder.names for folder in folders):
                head = path[: -len(tail)].rstrip("/") or "/"
                remedy = f"If {tail} is the file, map the beginning: --prefix {head}="
                return ImageProblem(f"{text!r} is a path of another machine", remedy=remedy, code="path.other_machine")
        remedy = "Map its beginning by --prefix, or give its folder by --images."
        there = "lies outside the folders" if Path(path).exists() else "is not there"
        return ImageProblem(f"{text!r} {there}", remedy=remedy, code="path.outside_root")


def _one(text: str, found: Sequence[FoundFile]) -> FoundFile:
    """The one file that is meant; several of the same content are one.

    Raises:
        ImageProblem: they differ.
    """
    first = found[0]
    for other in found[1:]:
        if not filecmp.cmp(first.path, other.path, shallow=False):
            problem = f"{text!r} may be {first.path} or {other.path}, which differ"
            raise ImageProblem(problem, remedy="Write the path of one of them.", code="path.ambiguous")
    return first


def _check_text(text: str) -> None:
    if not text.strip():
        remedy = "Write the picture's path, or take the row out."
        raise ImageProblem("the path is empty", remedy=remedy, code="path.empty")
    if "\0" in text:
        raise ImageProblem("a zero character in the path", remedy="Remove it.", code="path.zero_character")
