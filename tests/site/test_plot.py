"""Plots put every number where its value is, and say it in words too."""

from __future__ import annotations

import math
import re
from xml.etree import ElementTree

import pytest

from denoised.numbers import between, fixed, measured, short
from denoised.site.plot import Point, Series, curves, dots, lines, strip


def points(values: dict[float, float], half: float) -> tuple[Point, ...]:
    return tuple(Point(x, y, (y - half, y + half), (y, y)) for x, y in values.items())


def draw(*series: Series) -> ElementTree.Element:
    svg = lines(series, id="p", title="T <1>", x_label="evaluations", y_label="fid & more")
    return ElementTree.fromstring(svg)


def test_markers_stand_where_the_values_are() -> None:
    svg = draw(Series("a", points({5: 41.0, 10: 22.0, 20: 15.0, 50: 12.0}, 1.0)))
    marks = [(float(e.get("cx") or 0), float(e.get("cy") or 0)) for e in svg.iter("circle")][
        1:
    ]  # after the legend
    xs, ys = zip(*marks, strict=True)
    # Log axis: equal ratios are equal distances. Linear axis: equal differences are.
    assert math.isclose((xs[1] - xs[0]) / (xs[2] - xs[1]), 1.0, abs_tol=0.01)
    assert math.isclose((xs[3] - xs[2]) / (xs[1] - xs[0]), math.log(2.5) / math.log(2), abs_tol=0.01)
    assert math.isclose((ys[0] - ys[1]) / (ys[1] - ys[2]), 19 / 7, abs_tol=0.05)
    assert ys[0] < ys[1] < ys[2] < ys[3], "larger values stand higher"


def test_values_that_span_much_get_a_logarithmic_axis() -> None:
    svg = draw(Series("a", points({1: 1000.0, 2: 100.0, 3: 10.0}, 0.1)))
    ys = [float(e.get("cy") or 0) for e in svg.iter("circle")][1:]
    assert math.isclose(ys[1] - ys[0], ys[2] - ys[1], abs_tol=0.2)


@pytest.mark.parametrize(
    "values",
    [{5: 0.0}, {5: 3.0}, {5: -0.01, 10: 0.02}, {0: 1.0, 10: 2.0}, {5: 1e-6, 50: 1e6}, {1: 0.0, 2: 0.0}],
)
def test_odd_data_still_gives_a_plot_inside_its_box(values: dict[float, float]) -> None:
    svg = draw(Series("a", points(values, 0.5)), Series("b", points(values, 0.0)))
    _, _, width, height = map(float, (svg.get("viewBox") or "").split())
    for element in svg.iter():
        for name, limit in (("cx", width), ("x", width), ("cy", height), ("y", height)):
            if name in element.attrib:
                assert 0 <= float(element.attrib[name]) <= limit


def test_a_plot_speaks_to_those_who_do_not_see_it() -> None:
    svg = draw(Series("a", points({5: 41.0, 10: 22.0}, 1.0)), Series("b", points({5: 88.0}, 1.0)))
    assert svg.get("role") == "img"
    ids = (svg.get("aria-labelledby") or "").split()
    said = {e.get("id"): e.text for e in svg.iter() if e.get("id")}
    assert said[ids[0]] == "T <1>"
    assert said[ids[1]] == "fid & more. a: 5 → 41.0 ± 1.0, 10 → 22.0 ± 1.0; b: 5 → 88.0 ± 1.0"
    tooltips = [e.text for e in svg.iter("title")][1:]
    assert tooltips == ["a, 5: 41.0 ± 1.0.", "a, 10: 22.0 ± 1.0.", "b, 5: 88.0 ± 1.0."]


def test_series_differ_in_shape_as_well_as_in_colour() -> None:
    svg = lines(
        [Series(str(k), points({1: 1.0 + k}, 0.1)) for k in range(4)],
        id="p",
        title="",
        x_label="",
        y_label="",
    )
    assert len(set(re.findall(r'<(circle|rect|polygon) class="dn-mark"', svg))) == 3
    assert {f"dn-s{k}" for k in range(1, 5)} <= set(re.findall(r'class="(dn-s\d)"', svg))


def test_arms_alone_are_rows_with_their_seeds() -> None:
    rows = [
        Series("l_simple", (Point(0, 55.0, (50.0, 60.0), (54.0, 55.0, 56.0)),)),
        Series("x" * 99, (Point(0, 70.0),)),
    ]
    svg = ElementTree.fromstring(dots(rows, id="p", title="T", y_label="fid"))
    assert len([e for e in svg.iter("circle") if e.get("class") == "dn-seed"]) == 3
    names = [e.text or "" for e in svg.iter("text") if e.get("class") == "dn-name"]
    assert names[0] == "l_simple" and names[1].endswith("…")


def along(*series: Series, ceiling: float | None = None) -> ElementTree.Element:
    svg = curves(series, id="p", title="T", x_label="steps", y_label="loss", ceiling=ceiling)
    return ElementTree.fromstring(svg)


def test_training_is_drawn_on_a_linear_axis_from_zero() -> None:
    svg = along(Series("a", tuple(Point(x, y) for x, y in ((100, 5.0), (200, 4.0), (400, 3.0)))))
    marks = [(float(e.get("cx") or 0), float(e.get("cy") or 0)) for e in svg.iter("circle")]
    assert math.isclose(marks[2][0] - marks[1][0], 2 * (marks[1][0] - marks[0][0]), abs_tol=0.2)
    zero = next(float(e.get("x") or 0) for e in svg.iter("text") if e.text == "0")
    assert math.isclose(marks[0][0] - zero, marks[1][0] - marks[0][0], abs_tol=0.2)
    assert math.isclose(marks[1][1] - marks[0][1], marks[2][1] - marks[1][1], abs_tol=0.2)


def test_a_long_curve_is_a_line_without_markers() -> None:
    svg = along(Series("a", tuple(Point(float(k), 1.0 / k) for k in range(1, 101))))
    assert not list(svg.iter("circle"))
    (line,) = (e for e in svg.iter("polyline"))
    assert len((line.get("points") or "").split()) == 100
    assert next(e.text for e in svg.iter("desc")) == "loss. a: 1 → 1, 100 → 0.01"


def test_no_share_is_drawn_above_all() -> None:
    svg = along(Series("a", (Point(1.0, 60.0), Point(2.0, 100.0))), ceiling=100.0)
    top = min(float(e.get("cy") or 0) for e in svg.iter("circle"))
    ticks = {e.text: float(e.get("y") or 0) - 4 for e in svg.iter("text") if e.get("text-anchor") == "end"}
    assert math.isclose(ticks["100"], top, abs_tol=0.2)
    assert all(float(text or 0) <= 100 for text in ticks)


def test_a_long_legend_makes_a_taller_plot_and_stays_inside() -> None:
    names = [f"{k} a metric with a name that is much too long for a plot of this width" for k in range(7)]
    svg = along(*(Series(name, (Point(1.0, 1.0), Point(2.0, 2.0))) for name in names))
    _, _, width, height = map(float, (svg.get("viewBox") or "").split())
    shown = [e for e in svg.iter("text") if e.get("class") == "dn-name"]
    assert height > 280 and len(shown) == 7
    assert all((e.text or "").endswith("…") and 7.3 * len(e.text or "") < width for e in shown)


def test_names_are_escaped() -> None:
    evil = '"><script>alert(1)</script>'
    svg = lines([Series(evil, points({1: 1.0}, 0.1))], id="p", title=evil, x_label=evil, y_label=evil)
    assert "<script" not in svg


def test_the_emblem_ends_in_clean_data_and_is_always_the_same() -> None:
    one = strip(("a", "", "", "", "b"), id="s", title="t", description="d")
    assert one == strip(("a", "", "", "", "b"), id="s", title="t", description="d")
    assert ElementTree.fromstring(one).get("role") == "img"


# --- numbers ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("value", "interval", "text"),
    [
        (12.1, (11.2, 13.0), "12.10 ± 0.90"),
        (0.00281, (0.00236, 0.00326), "0.00281 ± 0.00045"),
        (-0.0004, (-0.0104, 0.0096), "0.000 ± 0.010"),
        (-3.26, (-4.26, -2.26), "−3.3 ± 1.0"),
        (1234.5, (1000.0, 1469.0), "1234 ± 234"),
        (12.0, None, "12"),
        (5.0, (5.0, 5.0), "5.0000 ± 0.0000"),
    ],
)
def test_a_number_has_as_many_digits_as_its_interval_leaves(
    value: float, interval: tuple[float, float] | None, text: str
) -> None:
    assert measured(value, interval) == text


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0, "0"),
        (0.1 + 0.2, "0.3"),
        (1000.0, "1000"),
        (3.17, "3.17"),
        (-2.5, "−2.5"),
        (1e-6, "1e−06"),
        (123456.0, "123456"),
    ],
)
def test_short_numbers(value: float, text: str) -> None:
    assert short(value) == text


def test_intervals_and_negative_zero() -> None:
    assert between((-31.46, -27.48)) == "[−31.5, −27.5]"
    assert fixed(-0.001, 1) == "0.0"
