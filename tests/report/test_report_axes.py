"""Scales, ticks and names of points: numbers at the right places, none over another."""

from __future__ import annotations

import math
import re
from xml.etree import ElementTree

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from distill_at_scale.report.figures import numbers
from distill_at_scale.report.figures.axes import CHARACTER, Axis, apart
from distill_at_scale.report.figures.document import svg_document
from distill_at_scale.report.figures.markup import Markup, tag
from distill_at_scale.report.figures.multiples import Multiples
from distill_at_scale.report.figures.multiples import Point as Multiple
from distill_at_scale.report.figures.scatter import Point, Scatter

POSITIVE = st.floats(1e-6, 1e9, allow_nan=False)


@settings(max_examples=40)
@given(st.lists(st.floats(-1e6, 1e6), min_size=1, max_size=9), st.integers(3, 12))
def test_ticks_are_few_round_and_inside(values: list[float], most: int) -> None:
    axis = Axis.around(values, 0, 100)
    ticks = axis.ticks(most)
    assert 1 <= len(ticks) <= most
    assert ticks == sorted(set(ticks))
    room = 1e-6 * (axis.high - axis.low)
    assert all(axis.low - room <= tick <= axis.high + room for tick in ticks)
    if len(ticks) > 1:
        step = ticks[1] - ticks[0]
        mantissa = step / 10 ** math.floor(math.log10(step) + 1e-9)
        assert min(abs(mantissa - round_) for round_ in (1, 2, 5, 10)) < 1e-3


@settings(max_examples=40)
@given(st.lists(POSITIVE, min_size=1, max_size=9), st.integers(2, 12))
def test_logarithmic_ticks_are_few_and_inside(values: list[float], most: int) -> None:
    axis = Axis.around(values, 0, 100, log=True)
    ticks = axis.ticks(most)
    assert len(ticks) <= most
    assert all(axis.low <= tick <= axis.high for tick in ticks)
    assert all(0 <= axis.at(value) <= 100 for value in values)


def test_places() -> None:
    assert [Axis(0, 4, 10, 30).at(value) for value in (-9, 0, 1, 4, 99)] == [10, 10, 15, 30, 30]
    log = Axis(0.01, 100, 0, 40, log=True)
    assert [log.at(value) for value in (0, 0.01, 0.1, 1, 100)] == pytest.approx([0, 0, 10, 20, 40])


def test_labels_that_would_touch_are_left_out() -> None:
    kept = apart([(0, "1 %"), (5, "2 %"), (60, "10 %"), (60 + 4 * CHARACTER + 5, "20 %")])
    assert [text for _, text in kept] == ["1 %", "10 %", "20 %"]


def test_markup_escapes_what_is_no_markup() -> None:
    assert tag("a", "<&", tag("b", None), href='"#x', class_="y", hidden=False, open=True, data_n=1.23456) == (
        '<a href="&quot;#x" class="y" open data-n="1.23">&lt;&amp;<b></b></a>'
    )
    assert isinstance(tag("a"), Markup)


def test_numbers_for_readers() -> None:
    assert [numbers.cpu(s) for s in (None, 0.0, 0.001, 0.254, 9.4, 85.2, 600.0, 36000.0)] == [
        "–", "0 s", "< 0.01 s", "0.25 s", "9.4 s", "85 s", "10 min", "10 h"
    ]  # fmt: skip
    assert [numbers.size(b) for b in (None, 900.0, 2000.0, 3.5e6, 8e12)] == [
        "–", "900 B", "2 kB", "3.5 MB", "8 TB"
    ]  # fmt: skip
    assert [numbers.rounds(n) for n in (None, 0.001, 0.1234, 3.0, 1234.0)] == ["never", "< 0.01", "0.12", "3", "1,234"]
    assert [numbers.percent(p) for p in (None, 0.97249, 1.0)] == ["–", "97.2 %", "100.0 %"]
    assert numbers.plain(-0.333) == "−0.33"
    assert numbers.budget(0.005) == "0.5 %"


def test_many_points_at_one_place_still_make_a_picture() -> None:
    points = [Point(f"method {k}", 1.0 + k * 1e-3, 0.9 + k * 1e-4, True, k == 0) for k in range(40)]
    drawn = Scatter(points, None, 0.95, "crowded", "cost", "kept", numbers.budget).draw()
    assert drawn.count("<circle") == 2 * 41
    # The recommended one has its name, whoever else goes without.
    assert drawn.count(">method 0<") == 2


def test_every_point_of_a_front_has_its_name() -> None:
    """Those without room beside them are joined to theirs by a line."""
    points = [
        Point(f"head_users {k} %", 1.1**k, 0.5 + 0.04 * k, True, k == 3, 0.45 + 0.04 * k, 0.55 + 0.04 * k)
        for k in range(8)
    ]
    drawn = Scatter(points, 3.0, 0.9, "front", "cost", "kept", numbers.budget).draw()
    for point in points:
        assert drawn.count(f">{point.name}<") == 2, point.name
    assert 'class="leader"' in drawn
    # An interval each, of an upright line and two caps, in both shapes.
    assert drawn.count('class="whisker"') == 2 * 3 * len(points)


def test_multiples_share_their_axes_and_refer_to_one_another() -> None:
    series = {
        "a": [Multiple(0.1, 0.5, 0.4, 0.6), Multiple(0.5, 0.8, 0.7, 0.9, chosen=True)],
        "b": [Multiple(0.1, 0.2)],
    }
    figure = Multiples("faint", "kept", series, "budget, %", "kept, %", [(1.0, "full")], {"b": "budget, % of users"})
    pictures = figure.pictures()
    assert list(pictures) == ["a", "b"]
    assert pictures["a"].count('id="faint"') == 1
    assert '<use href="#faint">' in pictures["b"]
    assert pictures["a"].count('class="whisker"') == 6
    assert 'class="band"' in pictures["a"]
    assert 'class="band"' not in pictures["b"]
    assert ("budget, %<" in pictures["a"], "budget, % of users<" in pictures["b"]) == (True, True)
    # The same place for the same number: the upper line of "full" and every tick.
    lines = [re.findall(r'class="(?:grid|full)"', picture) for picture in pictures.values()]
    assert lines[0] == lines[1]
    assert [re.findall(r"<line .*?>", p)[0] for p in pictures.values()] == [
        re.findall(r"<line .*?>", pictures["a"])[0]
    ] * 2


def test_a_file_of_figures_is_sound_and_its_text_is_text() -> None:
    figure = Multiples("faint", "kept", {"a & <b>": [Multiple(0.1, 0.5)]}, "budget, %", "kept, %")
    root = ElementTree.fromstring(svg_document([("kept <&>", figure)]))
    space = "{http://www.w3.org/2000/svg}"
    assert root.tag == f"{space}svg"
    texts = [text.text for text in root.iter(f"{space}text")]
    assert {"kept <&>", "a & <b>", "budget, %", "kept, %"} <= set(texts)
    assert not list(root.iter(f"{space}path"))
    assert all(float(root.attrib[name]) > 200 for name in ("width", "height"))
