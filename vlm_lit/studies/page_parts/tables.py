"""Markdown and LaTeX tables, and the escaping of what their cells hold."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final

_TEX: Final = str.maketrans(
    {
        "\\": r"\textbackslash{}",
        "~": r"\textasciitilde{}",
        "^": r"\textasciicircum{}",
        "\n": " ",
        "\r": " ",
        "\N{MINUS SIGN}": "$-$",
        "\N{EN DASH}": "--",
        "\N{PLUS-MINUS SIGN}": r"$\pm$",
        "<": "$<$",
        ">": "$>$",
        **{letter: f"\\{letter}" for letter in "&%$#_{}"},
    }
)
_MARKDOWN: Final = str.maketrans({"|": r"\|", "\n": " ", "\r": " ", "<": "&lt;", "*": r"\*", "_": r"\_", "`": r"\`"})


def markdown_table(header: Sequence[str], rows: Sequence[Sequence[str]], *, bold: frozenset[int] = frozenset()) -> str:
    """A table in Markdown; the rows at the positions `bold` have their first cell in bold."""
    lines = [in_markdown(header), ["---"] * len(header)]
    for position, row in enumerate(rows):
        first, *others = in_markdown(row)
        lines.append([f"**{first}**" if position in bold else first, *others])
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def in_markdown(cells: Sequence[str]) -> list[str]:
    """Each cell as Markdown shows it unchanged."""
    # Brackets stay, which intervals have; what would make a link of them does not.
    return [cell.translate(_MARKDOWN).replace("](", r"]\(").replace("]:", r"]\:") for cell in cells]


def latex_table(
    header: Sequence[str],
    rows: Sequence[Sequence[str]],
    *,
    numbers: int,
    bold: frozenset[int] = frozenset(),
    widths: Mapping[int, float] | None = None,
) -> str:
    """A table for LaTeX with the package booktabs.

    Args:
        header: column names.
        rows: a cell for each of them.
        numbers: how many columns, from the right, hold figures.
        bold: positions of the rows whose first cell is in bold.
        widths: of columns that hold sentences, by position, as shares of the line; the others are as wide as they need.
    """
    columns = ["r" if column >= len(header) - numbers else "l" for column in range(len(header))]
    for column, share in (widths or {}).items():
        columns[column] = rf"p{{{share:g}\linewidth}}"
    lines = [" & ".join(map(in_latex, header))]
    for position, row in enumerate(rows):
        first, *others = map(in_latex, row)
        first = f"{{}}{first}" if first.startswith(("[", "*")) else first  # or it would belong to the row before
        lines.append(" & ".join([rf"\textbf{{{first}}}" if position in bold else first, *others]))
    head, *body = (rf"{line} \\" for line in lines)
    inner = "\n".join([r"\toprule", head, r"\midrule", *body, r"\bottomrule"])
    return f"\\begin{{tabular}}{{{''.join(columns)}}}\n{inner}\n\\end{{tabular}}\n"


def in_latex(text: str) -> str:
    """Text as LaTeX shows it unchanged."""
    return text.translate(_TEX)
