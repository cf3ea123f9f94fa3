"""Limits of a chat template's work: it is a program that came with somebody's checkpoint, and it may never end.

transformers compiles templates in Jinja's sandbox, which keeps them from other code but not from endless loops, from
texts of a terabyte or from numbers that take years. Here each template is compiled with a count of its steps: an item
of a loop, a call, a filter, an operator and each 400 characters that are put together are one. What it writes stays the
same, to the letter, but for the date within `templates_on`.
"""

from __future__ import annotations

import re
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import lru_cache, wraps
from typing import Any, Final, cast

from jinja2 import TemplateError, nodes, pass_context
from jinja2.environment import Template
from jinja2.runtime import Context, Macro
from jinja2.sandbox import ImmutableSandboxedEnvironment
from jinja2.utils import Namespace
from transformers.utils import chat_template_utils

from vlm_lit.data.checkpoint.template_day import dated

MAX_STEPS: Final = 1_000_000
"""Steps of one rendering. A conversation of 200 turns takes a few thousand, and so does a million characters."""

MAX_SECONDS: Final = 1.0
"""Processor time of one rendering; the longest of a real record takes a hundredth."""

MAX_TEMPLATE: Final = 262_144
"""Characters of a template. The longest published ones have 30,000."""

_A_STEP: Final = 400
_LOOKED_AT: Final = 16
_MOST: Final = 1000
"""The largest number that a call or a filter is handed: as a width, it is a text of so many blanks."""

_BITS: Final = 4096
_WIDEST: Final = 16
_SHALLOW: Final = frozenset(
    {"first", "last", "length", "count", "list", "map", "select", "selectattr", "reject", "rejectattr", "reverse"}
    | {"items", "default", "d"}
)
"""Filters that copy nothing but the places of a list."""

_UNBOUNDED: Final = ("expandtabs", "translate", "maketrans")
_WIDTH: Final = re.compile(r"[0-9]{4}|\*")
_PART, _ITEMS = "vlm_lit_part", "vlm_lit_items"

_plain = chat_template_utils._compile_jinja_template


class TooMuchWorkError(TemplateError):
    """A template that was stopped."""


class _Work(threading.local):
    """What the rendering of this thread has done so far."""

    steps = 0
    look = 0
    ends = 0.0

    def begin(self) -> None:
        self.steps, self.look, self.ends = 0, _LOOKED_AT, time.thread_time() + MAX_SECONDS

    def add(self, steps: int = 1) -> None:
        self.steps += steps
        if self.steps >= self.look:
            self._check()

    def _check(self) -> None:
        self.look = self.steps + _LOOKED_AT
        if self.steps > MAX_STEPS:
            raise TooMuchWorkError(f"it was stopped after {MAX_STEPS:,} steps, which no conversation needs")
        if time.thread_time() > self.ends:
            raise TooMuchWorkError(f"it was stopped after {MAX_SECONDS:g} seconds, which no conversation needs")

    def weigh(self, *values: object) -> None:
        """Count values as if they were copied, all that they hold included."""
        for value in values:
            if isinstance(value, str | bytes):
                self.add(1 + len(value) // _A_STEP)
            elif isinstance(value, Mapping | list | tuple | set | frozenset):
                self._weigh_all(value)
            else:
                self.add()

    def _weigh_all(self, value: object) -> None:
        waiting = [value]
        while waiting:
            one = waiting.pop()
            self.add(1 + len(one) // _A_STEP if isinstance(one, str | bytes) else 1)
            if isinstance(one, Mapping):
                waiting += [*one.keys(), *one.values()]
            elif isinstance(one, list | tuple | set | frozenset):
                waiting += one


_WORK: Final = _Work()


class _Items:
    """What a loop goes through, each item a step."""

    def __init__(self, items: Any) -> None:  # noqa: ANN401 - whatever the template loops over
        self.items = items

    def __iter__(self) -> Iterator[Any]:
        work = _WORK
        for item in self.items:
            work.add()
            yield item

    def __len__(self) -> int:
        return len(self.items)


def _count(tree: nodes.Template) -> nodes.Template:
    """Put the counting into a parsed template."""
    for node in list(tree.find_all((nodes.For, nodes.Output, nodes.Concat, nodes.List, nodes.Tuple, nodes.Pair))):
        if isinstance(node, nodes.For):
            node.iter = _filtered(node.iter, _ITEMS)
        elif isinstance(node, nodes.Pair):
            node.value = _filtered(node.value, _PART)
        elif isinstance(node, nodes.Output | nodes.Concat):
            node.nodes = [_part_of(part) for part in node.nodes]
        elif isinstance(node, nodes.List) or (isinstance(node, nodes.Tuple) and node.ctx == "load"):
            node.items = [_part_of(part) for part in node.items]
    return tree


def _part_of(node: nodes.Expr) -> nodes.Expr:
    return node if isinstance(node, nodes.TemplateData) else _filtered(node, _PART)


def _filtered(node: nodes.Node, name: str) -> nodes.Filter:
    return nodes.Filter(cast(nodes.Expr, node), name, [], [], None, None, lineno=node.lineno)


@pass_context  # which also keeps it from being computed while the template is compiled
def _part(_: Context, value: Any) -> Any:  # noqa: ANN401 - whatever the template has
    if value.__class__ is str:
        _WORK.add(1 + len(value) // _A_STEP)
        return value
    _refuse(isinstance(value, Namespace), "a namespace that is written out")
    _WORK.weigh(value)
    return value


@pass_context
def _items(_: Context, value: Any) -> _Items:  # noqa: ANN401
    return _Items(value)


class BoundedEnvironment(ImmutableSandboxedEnvironment):
    """The sandbox with the counting."""

    intercepted_binops = frozenset({"+", "*", "**", "%"})

    def call_binop(self, context: Context, operator: str, left: Any, right: Any) -> Any:  # noqa: ANN401
        """Compute an operator, after its result has been counted."""
        if operator == "**":
            _refuse(not _small(left) or not _small(right), f"{left!r:.20} ** {right!r:.20}")
        elif operator == "*":
            _WORK.add(_product(left, right))
        elif operator == "%" and isinstance(left, str):
            _refuse(bool(_WIDTH.search(left)), "a text formatted to a width of four digits")
            _WORK.weigh(left, right)
        elif operator == "+":
            _WORK.weigh(left, right)
        return super().call_binop(context, operator, left, right)

    def call(__self, __context: Context, __obj: Any, *args: Any, **kwargs: Any) -> Any:  # noqa: ANN401, N805
        """Call a function or a method, after its arguments have been counted."""
        name = getattr(__obj, "__name__", "")
        _refuse(name in _UNBOUNDED, f"a call of {name}")
        if not isinstance(__obj, Macro):
            for one in (*args, *kwargs.values()):  # what it holds cannot be counted from here
                _refuse(isinstance(one, Namespace), "a namespace that is held by something else")
        _check(getattr(__obj, "__self__", None), args, kwargs, name)
        return super().call(__context, __obj, *args, **kwargs)

    def wrap_str_format(self, value: Any) -> Callable[..., str] | None:  # noqa: ANN401
        """See the sandbox; widths of four digits are refused."""
        made = super().wrap_str_format(value)
        if made is not None:
            _refuse(bool(_WIDTH.search(value.__self__)), "a text formatted to a width of four digits")
        return made


def _small(value: object) -> bool:
    return isinstance(value, int | float) and abs(value) <= _MOST and (isinstance(value, float) or value <= _BITS)


def _product(left: object, right: object) -> int:
    """The steps of a product."""
    for one, other in ((left, right), (right, left)):
        if isinstance(one, Sequence) and isinstance(other, int):
            _WORK.weigh(one)
            return 1 + len(one) * max(other, 0) // (_A_STEP if isinstance(one, str | bytes) else 1)
    if isinstance(left, int) and isinstance(right, int):
        _refuse(left.bit_length() + right.bit_length() > _BITS, "a number of more than a thousand digits")
    return 1


def _check(value: object, args: Sequence[object], kwargs: Mapping[str, object], name: str) -> None:
    """Count what a call or a filter is given."""
    _WORK.weigh(value if isinstance(value, str | list | dict) else None, *args, *kwargs.values())
    for one in (*args, *kwargs.values()):
        _refuse(isinstance(one, int) and abs(one) > _MOST and name != "safe_range", f"the number {one!r:.20}")
    if name in ("replace", "join") and isinstance(value, str) and args:
        _WORK.add(_grown(value, args, name) // _A_STEP)


def _grown(value: str, args: Sequence[object], name: str) -> int:
    """How many characters a text has after `replace`, or between the parts that it joins."""
    if name == "replace" and len(args) > 1 and isinstance(args[0], str):
        return (len(value) + 1 if not args[0] else value.count(args[0])) * len(str(args[1]))
    return len(value) * len(args[0]) if isinstance(args[0], list | tuple | str) else 0


def _refuse(wrong: bool, what: str) -> None:
    if wrong:
        raise TooMuchWorkError(f"it was stopped at {what}, which no conversation needs")


def _counted(name: str, filtering: Callable[..., Any]) -> Callable[..., Any]:
    """A filter whose arguments are counted."""
    first = 1 if hasattr(filtering, "jinja_pass_arg") else 0
    if name in _SHALLOW:

        @wraps(filtering)
        def passing(*args: Any, **kwargs: Any) -> Any:  # noqa: ANN401 - as the filter
            value = args[first]
            _WORK.add(1 + len(value) if isinstance(value, list | tuple | dict) else 1)
            return filtering(*args, **kwargs)

        return passing

    @wraps(filtering)
    def counted(*args: Any, **kwargs: Any) -> Any:  # noqa: ANN401 - as the filter
        value, *others = args[first:]
        _check_filter(name, value, others, kwargs)
        _check(value, others, kwargs, name)
        return filtering(*args, **kwargs)

    return counted


def _check_filter(name: str, value: Any, others: Sequence[Any], kwargs: Mapping[str, Any]) -> None:  # noqa: ANN401
    """Refuse what a filter could make without end of short arguments."""
    given = (*others, *kwargs.values())
    _refuse(isinstance(value, Namespace), "a namespace that is written out")
    if name == "join":  # its separator stands between the items of the value
        between = kwargs.get("d", others[0] if others else "")
        _WORK.add(len(str(between)) * (len(value) if hasattr(value, "__len__") else _MOST) // _A_STEP)
    elif name == "format":
        _refuse(bool(_WIDTH.search(str(value))), "a text formatted to a width of four digits")
    elif name in ("indent", "tojson"):
        _refuse(any(isinstance(one, int) and one > _WIDEST for one in given), f"lines moved by more than {_WIDEST}")
    elif name == "sum":
        _refuse(any(isinstance(one, list) for one in given), "a sum of lists")


@lru_cache(maxsize=64)
def bounded(source: str) -> Template:
    """A chat template, compiled as transformers does, that counts its work.

    Raises:
        TooMuchWorkError: its text is too long to be one.
        TemplateError: it is none.
    """
    if len(source) > MAX_TEMPLATE:
        raise TooMuchWorkError(f"it has {len(source):,} characters, and no template has more than {MAX_TEMPLATE:,}")
    made = _plain("").environment.overlay()
    made.__class__ = BoundedEnvironment
    made.optimized = False  # nothing is computed while it is compiled
    made.filters = {name: _counted(name, one) for name, one in made.filters.items()} | {_PART: _part, _ITEMS: _items}
    made.globals = {name: value for name, value in made.globals.items() if name != "lipsum"}
    made.globals["strftime_now"] = dated(made.globals["strftime_now"])
    template: Template = made.from_string(_count(made.parse(source)))
    rendering: Callable[[Context], Iterator[str]] = template.root_render_func

    def counted(context: Context) -> Iterator[str]:
        _WORK.begin()
        yield from rendering(context)

    template.root_render_func = counted  # what each of Jinja's ways to render goes through
    return template


def bound_templates() -> None:
    """Let transformers render every chat template of this process with its work counted."""
    chat_template_utils._compile_jinja_template = bounded
