"""Options of `curate`, from the command line and from a config file; the command line wins."""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence
from dataclasses import fields, replace
from pathlib import Path
from typing import Final

from vlm_lit.commands.options import OptionParser, share, whole_number
from vlm_lit.curation.settings import CuratedSource, CurationSettings
from vlm_lit.errors import ConfigError
from vlm_lit.files.strict_yaml import read_strict
from vlm_lit.settings import as_settings

_EPILOG: Final = """A config file has the same names; its sources may each have columns, annotations, image_name,
records, encoding and split of their own. It writes train.jsonl, val.jsonl, test.jsonl, rejects.jsonl, merged.jsonl,
duplicates.jsonl, contradictions.jsonl, curation.json and curation.html. See also: curate template --help"""
_OF_SOURCE: Final = ("annotations", "image_name", "records", "encoding", "split")
_NONE: Final = ("none", "null")


def curation_settings(verb: str, description: str | None, arguments: Sequence[str]) -> CurationSettings:
    """The settings that a command line asks for.

    Raises:
        ConfigError: an option or a setting of the config that cannot be used, or one that is missing.
    """
    parser = _parser(verb, description)
    given = vars(parser.parse_intermixed_args(arguments))
    config = given.pop("config", None)
    settings = _of_config(Path(config)) if config is not None else CurationSettings()
    of_source = {name: given.pop(name) for name in _OF_SOURCE if name in given}
    named = given.pop("sources")
    sources = tuple(CuratedSource(path=name) for name in named) if named else settings.sources
    sources = tuple(replace(source, **of_source) for source in sources)
    if "images" in given:
        given["images"] = tuple(given["images"])
    settings = replace(settings, sources=sources, **given)
    if not settings.sources:
        parser.error("a SOURCE must be given")
    if not settings.output:
        parser.error("--output must be given")
    return settings


def _parser(verb: str, description: str | None) -> OptionParser:
    usage = "%(prog)s SOURCE... --images DIR... --output DIR [options]"
    parser = OptionParser(
        verb, description=description, epilog=_EPILOG, argument_default=argparse.SUPPRESS, usage=usage
    )
    source = "file, folder, pattern or hub id: what fit reads, Label Studio JSON, CVAT XML"
    parser.add_argument("sources", nargs="*", default=[], metavar="SOURCE", help=source)
    parser.add_argument("--config", metavar="FILE", help="YAML with the same settings")
    parser.add_argument("--images", nargs="+", metavar="DIR", help="where the pictures are; else beside each source")
    parser.add_argument("--output", metavar="DIR", help="folder to write")
    columns = "ours=theirs,... with | between several of theirs: question=q|frage,answer=a,image=photo"
    parser.add_argument("--columns", type=_columns, action=_Joined, metavar="NAMES", help=columns)
    parser.add_argument(
        "--prefix", type=_prefix, action=_Joined, dest="prefixes", metavar="OLD=NEW", help="of other machines' paths"
    )
    parser.add_argument("--annotations", metavar="FILE", help="answers by question_id, as VQA publishes them")
    parser.add_argument("--image_name", metavar="NAME", help="as data.train.image_name: COCO_{image_id:012d}.jpg")
    parser.add_argument("--records", metavar="KEY", help="key of a JSON object that holds the rows")
    parser.add_argument("--encoding", help="of text files that are not UTF-8, for example cp1252")
    parser.add_argument("--split", help="of hub and saved data sets (default: train)")
    parser.add_argument("--ignore_keys", type=_names, metavar="KEYS", help="left out of rows, with commas between")
    parser.add_argument("--val", type=share, help="share of the picture groups (default: 0.1)")
    parser.add_argument("--test", type=share, help="share of the picture groups (default: 0.1)")
    parser.add_argument("--seed", type=int, help="what the splits follow from (default: 0)")
    kept = "anew by pictures, or as sources say (default: pictures)"
    parser.add_argument("--splits_from", choices=("pictures", "sources"), help=kept)
    parser.add_argument("--previous", metavar="DIR", help="earlier curation whose pictures keep their split")
    near = "bits of 64 in which near duplicates differ, or none (default: 4)"
    parser.add_argument("--near_distance", type=_distance, metavar="BITS", help=near)
    parser.add_argument("--contradictions", choices=("keep", "reject"), help="rows that disagree (default: keep)")
    parser.add_argument("--copy_images", action="store_true", help="copy pictures instead of linking to their folders")
    parser.add_argument("--overwrite", action="store_true", help="replace an earlier curation; its pictures stay put")
    parser.add_argument("--workers", type=whole_number(1), help="processes that read pictures (default: the cores)")
    return parser


class _Joined(argparse.Action):
    """Mappings of an option that may be given several times, joined."""

    def __call__(
        self, parser: argparse.ArgumentParser, namespace: argparse.Namespace, values: object, option: str | None = None
    ) -> None:
        assert isinstance(values, Mapping)
        before: Mapping[str, str] = getattr(namespace, self.dest, {})
        setattr(namespace, self.dest, {**before, **values})


def _columns(text: str) -> dict[str, str]:
    pairs = [part.partition("=") for part in text.split(",") if part.strip()]
    if not pairs or not all(ours.strip() and equals and theirs.strip() for ours, equals, theirs in pairs):
        raise argparse.ArgumentTypeError(f"{text} is not ours=theirs,... such as question=frage,answer=antwort")
    return {ours.strip(): theirs.strip() for ours, _, theirs in pairs}


def _prefix(text: str) -> dict[str, str]:
    old, equals, new = text.rpartition("=")
    if not equals or not old:
        raise argparse.ArgumentTypeError(f"{text} is not OLD=NEW, such as D:/photos=")
    return {old: new}


def _names(text: str) -> list[str]:
    return [name.strip() for name in text.split(",") if name.strip()]


def _distance(text: str) -> int | None:
    if text.lower() in _NONE:
        return None
    if not text.isdecimal():
        raise argparse.ArgumentTypeError(f"{text} is not a number of bits, or none")
    return int(text)


def _of_config(path: Path) -> CurationSettings:
    content = read_strict(path, "config")
    if not isinstance(content, dict):
        raise ConfigError(f"{path} is no config: write settings as `name: value`, one a line.")
    written = {str(name): value for name, value in content.items()}
    sources, images = written.pop("sources", []), written.pop("images", [])
    if isinstance(written.get("columns"), dict):
        written["columns"] = _several(written["columns"])
    for field in fields(CurationSettings):  # 0 and 1 are shares as well
        if field.name in ("val", "test") and type(written.get(field.name)) is int:
            written[field.name] = float(written[field.name])
    settings = as_settings(CurationSettings, written, str(path))
    listed = sources if isinstance(sources, list) else [sources]
    folders = images if isinstance(images, list) else [images]
    if not all(isinstance(folder, str) for folder in folders):
        raise ConfigError(f"{path}: images is {images!r}; it must be a folder, or a list of them.")
    return replace(
        settings,
        sources=tuple(_source(entry, f"{path}: sources[{k}]") for k, entry in enumerate(listed)),
        images=tuple(map(str, folders)),
    )


def _source(entry: object, name: str) -> CuratedSource:
    if isinstance(entry, str):
        return CuratedSource(path=entry)
    if isinstance(entry, dict) and isinstance(entry.get("columns"), dict):
        entry = {**entry, "columns": _several(entry["columns"])}
    return as_settings(CuratedSource, entry, name)


def _several(columns: Mapping[object, object]) -> dict[str, object]:
    """Columns whose several names are written as a list, as the command line writes them."""
    return {
        str(ours): "|".join(map(str, theirs)) if isinstance(theirs, list) else theirs
        for ours, theirs in columns.items()
    }
