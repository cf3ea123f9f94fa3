"""Tests of a study's figures: they are there, of the right kind, and show something."""

import io
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest
from PIL import Image

from tests.support.study_runs import METRIC, falling, open_study, write_cell
from vlm_lit.studies.reporting.report import StudyReport, study_report
from vlm_lit.studies.reporting.report_plots import MOST_SETTINGS, report_plots, shown_settings

EVERY = {f"{name}.{kind}" for name in ("learning_curves", "cost", "heat_map") for kind in ("svg", "png")}


def two_factors(folder: Path) -> StudyReport:
    study = open_study(folder, {"rank": [4, 16], "bits": ["nf4", "bf16", "int8"]}, seeds=[0, 1])
    for r, rank in enumerate(("4", "16")):
        for b, bits in enumerate(("nf4", "bf16")):
            for seed in (0, 1):
                loss = falling(30, to=0.5 + 0.2 * b + 0.1 * seed)
                n = 10 + 8 * r + 4 * b + seed
                write_cell(
                    study,
                    {"rank": rank, "bits": bits},
                    seed,
                    [1.0] * n + [0.0] * (40 - n),
                    trained=1000 * 10**r,
                    fit_seconds=60 + 10 * b,
                    events={"train/loss": loss, f"val/{METRIC}": [(9, 9, 0.2), (19, 19, 0.3 + 0.1 * r)]},
                )
    return study_report(study)


@pytest.fixture(scope="module")
def plots(tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    return report_plots(two_factors(tmp_path_factory.mktemp("plots")))


def words(svg: bytes) -> str:
    """Text is drawn as shapes; what it says stands in comments."""
    return svg.decode()


def test_every_figure_is_there_as_png_and_as_svg(plots: dict[str, bytes]) -> None:
    assert plots.keys() == EVERY
    for name, content in plots.items():
        if name.endswith(".svg"):
            assert ElementTree.fromstring(content).tag == "{http://www.w3.org/2000/svg}svg"


@pytest.mark.parametrize(
    ("name", "size"), [("learning_curves", (1530, 690)), ("cost", (1530, 690)), ("heat_map", (997, 510))]
)
def test_a_picture_shows_something(plots: dict[str, bytes], name: str, size: tuple[int, int]) -> None:
    picture = Image.open(io.BytesIO(plots[f"{name}.png"])).convert("RGB")
    assert picture.size == size
    pixels = np.asarray(picture).reshape(-1, 3).astype(int)
    coloured = pixels[pixels.max(axis=1) - pixels.min(axis=1) > 40]
    assert len(np.unique(coloured, axis=0)) > 20
    assert len(coloured) > 500


def test_long_names_stay_within_a_narrow_figure(tmp_path: Path) -> None:
    names = [f"attention_and_feed_forward_{part}" for part in "abc"]
    study = open_study(tmp_path, {"targets": names}, seeds=[0])
    for name in names:
        write_cell(study, {"targets": name}, 0, [1.0] * 4, events={"train/loss": falling(30, to=0.5)})
    drawn = report_plots(study_report(study))["learning_curves.png"]
    picture = np.asarray(Image.open(io.BytesIO(drawn)).convert("L"))
    below = picture[int(0.85 * len(picture)) :]  # the legend
    assert below.min() < 100
    assert below[:, :8].min() == below[:, -8:].min() == 255


def test_axes_are_named_with_their_units(plots: dict[str, bytes]) -> None:
    for name, labels in (
        (
            "learning_curves.svg",
            ("optimizer steps", "training loss per supervised token, nats", f"validation {METRIC}, %"),
        ),
        ("cost.svg", ("time of fit, seconds", "trained parameters", f"{METRIC}, % (mean and 95 % interval)")),
        ("heat_map.svg", ("rank", "bits", f"{METRIC}, %")),
    ):
        assert all(f"<!-- {label}" in words(plots[name]) for label in labels), name


def test_the_map_prints_its_values_and_where_there_is_none(plots: dict[str, bytes]) -> None:
    drawn = words(plots["heat_map.svg"])
    # (10 + 11) / 80, and so on; the deviation of two seeds one question apart is 1 / 40 / sqrt(2).
    for value in ("26.2", "36.2", "46.2", "56.2", "\N{PLUS-MINUS SIGN} 1.8"):
        assert f"<!-- {value} -->" in drawn, value
    assert drawn.count("<!-- no score -->") == 2


def test_one_factor_has_no_map_and_no_loss_no_curves(tmp_path: Path) -> None:
    study = open_study(tmp_path, {"way": ["a", "b"]}, seeds=[0])
    write_cell(study, {"way": "a"}, 0, [1.0, 0.0, 1.0, 0.0])
    assert report_plots(study_report(study)).keys() == {"cost.svg", "cost.png"}


def test_of_too_many_settings_the_best_are_drawn(tmp_path: Path) -> None:
    levels = [f"w{i:02d}" for i in range(MOST_SETTINGS + 3)]
    study = open_study(tmp_path, {"way": levels}, seeds=[0])
    for i, level in enumerate(levels):
        write_cell(study, {"way": level}, 0, [1.0] * (i + 1) + [0.0] * (60 - i))
    shown = [setting.levels["way"] for setting in shown_settings(study_report(study))]
    assert shown == levels[3:]
