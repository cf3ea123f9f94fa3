"""Tests of scenes: each is a pure function of its numbers, and its picture shows it."""

from dataclasses import replace

import pytest
from PIL import Image

from vlm_lit.workbench.drawing import SIDE, draw
from vlm_lit.workbench.world import COLORS, GRID, KINDS, Scene, SceneItem, scene

SCENES = [scene(11, index) for index in range(400)]


def pixel(picture: Image.Image, x: float, y: float) -> tuple[int, int, int]:
    red, green, blue = picture.crop((int(x * SIDE), int(y * SIDE), int(x * SIDE) + 1, int(y * SIDE) + 1)).tobytes()
    return red, green, blue


def alone(item: SceneItem) -> Scene:
    return Scene(name="one", layout="card", background=(250, 250, 250), items=(item,))


def test_a_scene_is_a_function_of_seed_and_index() -> None:
    assert scene(11, 7) == SCENES[7]
    assert scene(11, 8) != SCENES[7]
    assert scene(12, 7).items != SCENES[7].items


def test_a_picture_is_a_function_of_its_scene() -> None:
    assert draw(SCENES[7]).tobytes() == draw(scene(11, 7)).tobytes()
    assert draw(SCENES[7]).tobytes() != draw(SCENES[8]).tobytes()
    assert (draw(SCENES[7]).size, draw(SCENES[7]).mode) == ((SIDE, SIDE), "RGB")


def test_about_a_third_of_the_scenes_are_cards() -> None:
    share = sum(shown.layout == "card" for shown in SCENES) / len(SCENES)
    assert 0.27 < share < 0.43


def test_everything_occurs() -> None:
    seen = {(item.kind, item.color, item.lit, item.reading) for shown in SCENES for item in shown.items}
    assert {kind for kind, *_ in seen} == set(KINDS)
    assert {color for _, color, _, _ in seen} == {*COLORS, None}
    assert {lit for _, _, lit, _ in seen} == {True, False, None}
    assert {reading for *_, reading in seen} == {*range(9), None}


def test_no_two_items_of_a_bench_share_a_place() -> None:
    for shown in SCENES:
        if shown.layout == "bench":
            places = [(item.row, item.column) for item in shown.items]
            assert len(set(places)) == len(places)
            assert all(int(item.y * GRID) + 1 == item.row for item in shown.items)
            assert all(int(item.x * GRID) + 1 == item.column for item in shown.items)


def test_the_items_of_a_card_lie_inside_it() -> None:
    for shown in SCENES:
        if shown.layout == "card":
            for item in shown.items:
                assert 0 <= item.x - item.half_width < item.x + item.half_width <= 1
                assert 0 <= item.y - item.half_height < item.y + item.half_height <= 1


def test_a_shape_is_painted_in_its_color_where_it_lies() -> None:
    for shown in SCENES[:100]:
        picture = draw(shown)
        for item in shown.of_kind("circle", "rectangle", "triangle"):
            assert pixel(picture, item.x, item.y) == item.rgb


@pytest.mark.parametrize("color", COLORS)
def test_a_shade_stays_nearest_to_its_own_name(color: str) -> None:
    for shown in SCENES:
        for item in shown.items:
            if item.color == color:
                apart = {
                    name: sum(abs(a - b) for a, b in zip(item.rgb, rgb, strict=True)) for name, rgb in COLORS.items()
                }
                assert min(apart, key=apart.__getitem__) == color


def test_a_lit_lamp_glows() -> None:
    dark = SceneItem(kind="lamp", x=0.5, y=0.5, half_width=0.1, half_height=0.1, lit=False)
    glow = pixel(draw(alone(replace(dark, lit=True))), 0.5, 0.5)
    assert sum(glow) > sum(pixel(draw(alone(dark)), 0.5, 0.5)) + 100


def test_every_gauge_reading_looks_different() -> None:
    gauge = SceneItem(kind="gauge", x=0.5, y=0.5, half_width=0.1, half_height=0.1, reading=0)
    pictures = {draw(alone(replace(gauge, reading=reading))).tobytes() for reading in range(9)}
    assert len(pictures) == 9
