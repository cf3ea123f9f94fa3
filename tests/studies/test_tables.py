"""Tests of Markdown and LaTeX tables: what a cell holds stays in its cell."""

from vlm_lit.studies.page_parts.tables import latex_table, markdown_table


def test_markdown() -> None:
    table = markdown_table(("a|b", "n"), [("x_y\nz", "< 1"), ("plain", "2")], bold=frozenset({1}))
    assert table == "| a\\|b | n |\n| --- | --- |\n| x\\_y z | &lt; 1 |\n| **plain** | 2 |"


def test_latex() -> None:
    table = latex_table(("name", "n"), [("50 %", "\N{MINUS SIGN}1"), ("b", "2")], numbers=1, bold=frozenset({1}))
    assert table.splitlines() == [
        r"\begin{tabular}{lr}",
        r"\toprule",
        r"name & n \\",
        r"\midrule",
        r"50 \% & $-$1 \\",
        r"\textbf{b} & 2 \\",
        r"\bottomrule",
        r"\end{tabular}",
    ]


def test_a_latex_row_does_not_reach_into_the_one_before() -> None:
    rows = [("[2cm]", "1"), ("*", "2")]
    assert r"{}[2cm] & 1 \\" in latex_table(("name", "n"), rows, numbers=1)
    assert r"{}* & 2 \\" in latex_table(("name", "n"), rows, numbers=1)


def test_sentences_have_a_width_in_latex() -> None:
    assert r"\begin{tabular}{lp{0.5\linewidth}r}" in latex_table(("a", "b", "n"), [], numbers=1, widths={1: 0.5})
