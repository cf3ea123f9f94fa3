"""Study file: factors with their levels, seeds and claims, read from YAML, every name checked."""

from __future__ import annotations

import itertools
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, Literal

from vlm_lit.files.strict_yaml import read_strict
from vlm_lit.studies.running.checked_mapping import Checked, as_name, in_words

NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._+-]{0,63}")
"""What may name a study, a factor or a level: they become names of folders."""

LARGEST_SEED: Final = 2**32 - 1


@dataclass(frozen=True, kw_only=True)
class Level:
    """One value of a factor: config files that are laid over the study's, then settings by dotted key."""

    name: str
    configs: tuple[Path, ...] = ()
    settings: Mapping[str, object] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class Factor:
    """What is varied, and the levels it takes, in the file's order."""

    name: str
    levels: tuple[Level, ...]

    def level(self, name: str) -> Level:
        """The level of that name; there is one, the file was checked."""
        return next(level for level in self.levels if level.name == name)


@dataclass(frozen=True, kw_only=True)
class StudyClaim:
    """A published claim about two sides, each given by the levels of some factors.

    `greater`: `better` scores more than `than`, by more than `margin` (a fraction). `equal`: they differ by no more.
    """

    says: str
    source: str
    better: Mapping[str, str]
    than: Mapping[str, str]
    kind: Literal["equal", "greater"]
    margin: float


@dataclass(frozen=True, kw_only=True)
class Published:
    """A figure from elsewhere, shown beside those of the cells that have the levels `cell`."""

    cell: Mapping[str, str]
    value: float
    what: str
    source: str


@dataclass(frozen=True, kw_only=True)
class Range:
    """From where to where a searched setting is drawn, ends included; `log`: evenly in its logarithm."""

    low: float
    high: float
    log: bool
    whole: bool


@dataclass(frozen=True, kw_only=True)
class Search:
    """Settings drawn by a sampler instead of a grid. `ranges` are by dotted key; factors are drawn as well."""

    sampler: Literal["tpe", "random"]
    trials: int
    ranges: Mapping[str, Range]


@dataclass(frozen=True, kw_only=True)
class Study:
    """A study file, read. Names of levels are text everywhere; `folder` is relative to the working directory."""

    name: str
    file: Path
    configs: tuple[Path, ...]
    folder: Path
    metric: str
    factors: tuple[Factor, ...]
    seeds: tuple[int, ...]
    baseline: Mapping[str, str]
    settings: Mapping[str, object]
    claims: tuple[StudyClaim, ...]
    published: tuple[Published, ...]
    search: Search | None

    def factor(self, name: str) -> Factor:
        """The factor of that name; there is one, the file was checked."""
        return next(factor for factor in self.factors if factor.name == name)


def read_study(path: Path) -> Study:
    """Read a study file.

    Raises:
        ConfigError: it cannot be read, or something in it is unknown, missing, of another kind or there twice.
    """
    return _study(Checked(read_strict(path, "study"), path, ""))


def _study(given: Checked) -> Study:
    given.known(
        "name", "config", "folder", "metric", "factors", "seeds", "baseline", "set", "claims", "published", "search"
    )
    factors = tuple(_factor(name, entry) for name, entry in given.entries("factors"))
    search = _search(given.inner("search")) if "search" in given else None
    if not factors and search is None:
        raise given.error("factors", "has none", "Name what is varied and its levels")
    study = Study(
        name=_name(given, "name", given.text("name")),
        file=given.file,
        configs=given.files("config", least=1),
        folder=Path(given.text("folder")),
        metric=given.text("metric"),
        factors=factors,
        seeds=_seeds(given),
        baseline=_levels(given.inner("baseline"), factors, whole=True) if factors else {},
        settings=given.settings("set"),
        claims=tuple(_claim(entry, factors) for entry in given.items("claims")),
        published=tuple(_published(entry, factors) for entry in given.items("published")),
        search=search,
    )
    _same_key_once(study, given)
    return study


def _name(given: Checked, key: str, name: str) -> str:
    if not NAME.fullmatch(name):
        raise given.error(key, f"is {in_words(name)}", "Names are letters, digits and . _ + -, as folders need them")
    return name


def _factor(name: str, given: Checked) -> Factor:
    _name(given, "", name)
    if name == "seed":
        raise given.error("", "is no factor", "Seeds have a list of their own: seeds")
    given.known("key", "values", "levels")
    if ("levels" in given) == ("values" in given or "key" in given):
        raise given.error("", "must have either key and values, or levels", "Write one of the two forms")
    levels = _long(given.inner("levels")) if "levels" in given else _short(given)
    names = [level.name for level in levels]
    if twice := sorted({entry for entry in names if names.count(entry) > 1}):
        raise given.error("values", f"has the level {twice[0]} twice", "Keep one")
    if len(names) < 2:
        raise given.error("", f"has {len(names)} level", "A factor has two or more; a fixed setting belongs under set")
    return Factor(name=name, levels=levels)


def _short(given: Checked) -> tuple[Level, ...]:
    key = given.text("key")
    values = given.list("values")
    if any(isinstance(value, (dict, list)) for value in values):
        raise given.error("values", "must be plain values", "Give lists and mappings names, under levels")
    return tuple(
        Level(name=_name(given, "values", as_name(value)), settings=given.dotted({key: value}, "key"))
        for value in values
    )


def _long(given: Checked) -> tuple[Level, ...]:
    levels = []
    for name, entry in given.entries(""):
        entry.known("config", "set")
        levels.append(Level(name=_name(given, "", name), configs=entry.files("config"), settings=entry.settings("set")))
    return tuple(levels)


def _same_key_once(study: Study, given: Checked) -> None:
    """One of two places that set one key would have no effect."""
    keys = [(f.name, {key for level in f.levels for key in level.settings}) for f in study.factors]
    keys += [("set", set(study.settings)), ("search.ranges", set(study.search.ranges if study.search else ()))]
    for (one, ones), (other, others) in itertools.combinations(keys, 2):
        if shared := sorted(ones & others):
            raise given.error("", f"sets {shared[0]} in {one} and in {other}", "One of them would have no effect")


def _seeds(given: Checked) -> tuple[int, ...]:
    seeds = given.list("seeds")
    wrong = [s for s in seeds if not isinstance(s, int) or isinstance(s, bool) or not 0 <= s <= LARGEST_SEED]
    if wrong or not seeds or len(set(seeds)) < len(seeds):
        raise given.error("seeds", f"is {in_words(seeds)}", "Give different whole numbers from 0 up, one at least")
    return tuple(s for s in seeds if isinstance(s, int))


def _levels(given: Checked, factors: tuple[Factor, ...], *, whole: bool = False) -> dict[str, str]:
    """Levels by factor, in the order of the factors; `whole`: one of every factor."""
    given.known(*(factor.name for factor in factors), what="factor")
    chosen = {}
    for factor in factors:
        if factor.name in given:
            name = as_name(given.value(factor.name))
            given.one_of(factor.name, name, [level.name for level in factor.levels], what="level")
            chosen[factor.name] = name
        elif whole:
            raise given.error("", f"lacks {factor.name}", "It names a level of every factor")
    return chosen


def _claim(given: Checked, factors: tuple[Factor, ...]) -> StudyClaim:
    given.known("says", "source", "better", "than", "kind", "margin")
    better, than = (_levels(given.inner(side), factors) for side in ("better", "than"))
    if not better or better.keys() != than.keys() or better == than:
        raise given.error("better", "and than must give the same factors other levels", "They are the two sides")
    kind: Literal["equal", "greater"] = "equal" if given.choice("kind", ("equal", "greater")) == "equal" else "greater"
    margin = given.number("margin", least=0.0, most=1.0) if "margin" in given or kind == "equal" else 0.0
    return StudyClaim(
        says=given.text("says"), source=given.text("source"), better=better, than=than, kind=kind, margin=margin
    )


def _published(given: Checked, factors: tuple[Factor, ...]) -> Published:
    given.known("cell", "value", "what", "source")
    return Published(
        cell=_levels(given.inner("cell"), factors),
        value=given.number("value"),
        what=given.text("what"),
        source=given.text("source"),
    )


def _search(given: Checked) -> Search:
    given.known("sampler", "trials", "ranges")
    sampler: Literal["tpe", "random"] = "tpe" if given.choice("sampler", ("tpe", "random")) == "tpe" else "random"
    ranges = {key: _range(entry) for key, entry in given.entries("ranges")}
    given.dotted(dict(ranges), "ranges")
    return Search(sampler=sampler, trials=given.whole("trials", least=1), ranges=ranges)


def _range(given: Checked) -> Range:
    given.known("low", "high", "log")
    low, high, log = given.number("low"), given.number("high"), given.flag("log")
    if not low < high or (log and low <= 0):
        raise given.error("low", f"is {low} and high is {high}", "low is below high, and above 0 where log is true")
    whole = all(isinstance(given.value(end), int) for end in ("low", "high"))
    return Range(low=low, high=high, log=log, whole=whole)
