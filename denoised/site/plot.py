"""Plots as SVG written by hand: no script, no library, legible at 360 pixels and in both colour schemes.

Colours come from the page's custom properties by class (`dn-s1`, `dn-s2`, …); a series also has a marker of its
own, so that colour is never alone. Every plot has a title and a description for those who do not see it, and
every point a tooltip. The same data always gives the same bytes.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from html import escape

from markupsafe import Markup

from denoised.numbers import measured, short

WIDTH, HEIGHT = 360, 280  # units of the view box; type of 13 units is 11 pixels on the narrowest phone
_LEFT, _RIGHT, _BOTTOM = 48, 12, 44
_ALPHA_BARS = (0.0, 0.55, 0.88, 0.98, 1.0)  # of the emblem's panels
_LONGEST_NAME = 140.0  # beside a plot
LONGEST_LABEL = WIDTH - 40.0  # in a legend
_FEW = 40  # points of a curve that each get a marker
_MARKERS = ("circle", "square", "triangle", "diamond")


@dataclass(frozen=True)
class Point:
    """A measured value at a place on the horizontal axis, with its 95 % interval and its seeds."""

    x: float
    y: float
    interval: tuple[float, float] | None = None
    seeds: tuple[float, ...] = ()
    note: str = ""  # said in the tooltip after the numbers

    @property
    def low(self) -> float:
        return self.interval[0] if self.interval else self.y

    @property
    def high(self) -> float:
        return self.interval[1] if self.interval else self.y


@dataclass(frozen=True)
class Series:
    """A named line."""

    name: str
    points: tuple[Point, ...]


@dataclass(frozen=True)
class _Axis:
    """A scale from data to the view box: linear, or logarithmic in base ten."""

    low: float
    high: float
    start: float
    end: float
    log: bool

    def __call__(self, value: float) -> float:
        change: Callable[[float], float] = math.log10 if self.log else float
        low, high = change(self.low), change(self.high)
        inside = min(max(value, self.low), self.high)
        return self.start + (change(inside) - low) / (high - low) * (self.end - self.start)

    def ticks(self) -> list[float]:
        """Round numbers inside the axis, about five."""
        if not self.log:
            step = _nice((self.high - self.low) / 4)
            first = math.ceil(self.low / step)
            return [round(k * step, 12) for k in range(first, math.floor(self.high / step) + 1)]
        decades = range(math.floor(math.log10(self.low)), math.ceil(math.log10(self.high)) + 1)
        for mantissas in ((1,), (1, 3), (1, 2, 5), (1, 1.5, 2, 3, 4, 5, 6, 8)):
            found = [m * 10.0**k for k in decades for m in mantissas if self.low <= m * 10.0**k <= self.high]
            if len(found) >= 4:
                break
        return found


def lines(
    series: Sequence[Series],
    *,
    id: str,
    title: str,
    x_label: str,
    y_label: str,
    panel: str = "",
    round_ticks: bool = False,
) -> Markup:
    """Value against cost, such as network evaluations: a line, a band and error bars for each series.

    `panel`: what sets this plot apart from others with the same axes, said below `y_label`. `round_ticks`: mark
    round numbers on the horizontal axis instead of the places of the points.

    The vertical axis is logarithmic where every interval is positive and the values span more than a factor of
    eight, the horizontal one where they span four or more.
    """
    points = [point for each in series for point in each.points]
    xs = sorted({point.x for point in points})
    lows, highs = [p.low for p in points], [p.high for p in points]
    legend, top = _legend([each.name for each in series], below=_panel_height(panel))
    log_x = xs[0] > 0 and xs[-1] / xs[0] >= 4
    x_axis = _axis(xs, _LEFT + 12, WIDTH - _RIGHT - 12, log=log_x, pad=0)
    log_y = min(lows) > 0 and max(highs) / min(lows) > 8
    y_axis = _axis([*lows, *highs], HEIGHT - _BOTTOM, top, log=log_y, pad=0.06)
    marked = x_axis.ticks() if round_ticks else xs
    parts = [_panel(panel), _frame(y_axis, top), legend, *_x_ticks(x_axis, marked, x_label, log_x)]
    for number, each in enumerate(series, 1):
        ordered = sorted(each.points, key=lambda point: point.x)
        inside = []
        if len(ordered) > 1:
            upper = [f"{x_axis(p.x):.1f},{y_axis(p.high):.1f}" for p in ordered]
            lower = [f"{x_axis(p.x):.1f},{y_axis(p.low):.1f}" for p in reversed(ordered)]
            middle = [f"{x_axis(p.x):.1f},{y_axis(p.y):.1f}" for p in ordered]
            inside.append(f'<polygon class="dn-band" points="{" ".join(upper + lower)}"/>')
            inside.append(f'<polyline class="dn-line" points="{" ".join(middle)}"/>')
        for point in ordered:
            x, y = x_axis(point.x), y_axis(point.y)
            bar = _bar(x, y_axis(point.low), y_axis(point.high), upright=True) if point.interval else ""
            inside.append(_group(f"{each.name}, {_said(point)}", bar + _marker(number, x, y)))
        parts.append(f'<g class="dn-s{_colour(number)}">{"".join(inside)}</g>')
    said = "; ".join(
        f"{s.name}: {', '.join(f'{short(p.x)} → {_value(p)}' for p in s.points)}" for s in series
    )
    return _svg(id, title, f"{y_label}. {said}", y_label, parts)


def curves(
    series: Sequence[Series],
    *,
    id: str,
    title: str,
    x_label: str,
    y_label: str,
    ceiling: float | None = None,
) -> Markup:
    """Values along training, on a linear axis that begins at 0; few points have markers and tooltips.

    `ceiling`: what no value can pass. Without one the vertical axis is logarithmic under the conditions of `lines`.
    """
    xs = [point.x for each in series for point in each.points]
    ys = [point.y for each in series for point in each.points]
    # A single line needs no legend: the axis says what it is. A long one must not squeeze the plot.
    names = [shortened(each.name) for each in series]
    legend, top = _legend(names) if len(series) > 1 else ("", 40.0)
    height = max(float(HEIGHT), top + 210)
    x_axis = _axis([0.0, *xs], _LEFT, WIDTH - _RIGHT - 12, log=False, pad=0)
    log_y = ceiling is None and min(ys) > 0 and max(ys) / min(ys) > 8
    y_axis = _axis(ys, height - _BOTTOM, top, log=log_y, pad=0.06)
    if ceiling is not None:
        y_axis = replace(y_axis, high=min(y_axis.high, ceiling))
    parts = [_frame(y_axis, top), legend, *_x_ticks(x_axis, x_axis.ticks(), x_label, False, height)]
    said = []
    for number, each in enumerate(series, 1):
        path = " ".join(f"{x_axis(p.x):.1f},{y_axis(p.y):.1f}" for p in each.points)
        inside = [f'<polyline class="dn-line" points="{path}"/>']
        few = len(each.points) <= _FEW
        if few:
            inside += [
                _group(f"{each.name}, {_said(p)}", _marker(number, x_axis(p.x), y_axis(p.y)))
                for p in each.points
            ]
        parts.append(f'<g class="dn-s{_colour(number)}">{"".join(inside)}</g>')
        told = each.points if few else (each.points[0], each.points[-1])
        said.append(f"{each.name}: {', '.join(f'{short(p.x)} → {_value(p)}' for p in told)}")
    return _svg(id, title, f"{y_label}. {'; '.join(said)}", y_label, parts, height)


def dots(series: Sequence[Series], *, id: str, title: str, y_label: str, panel: str = "") -> Markup:
    """Value for each name where nothing varies along an axis: a marker, its error bar and its seeds.

    `panel`: as for `lines`.
    """
    rows = [
        (number, shortened(each.name, _LONGEST_NAME), each.points[0]) for number, each in enumerate(series, 1)
    ]
    values = [value for _, _, p in rows for value in (p.low, p.high, *p.seeds)]
    left = 24 + max(_text_width(name) for _, name, _ in rows)
    axis = _axis(
        values, left, WIDTH - _RIGHT, log=min(values) > 0 and max(values) / min(values) > 8, pad=0.08
    )
    top, bottom = 40.0 + _panel_height(panel), HEIGHT - _BOTTOM
    parts = [_panel(panel)]
    for tick in axis.ticks():
        x = axis(tick)
        parts.append(f'<path class="dn-grid" d="M{x:.1f} {top}V{bottom}"/>')
        parts.append(
            f'<text class="dn-tick" x="{x:.1f}" y="{bottom + 18}" text-anchor="middle">{short(tick)}</text>'
        )
    for place, (number, name, point) in enumerate(rows):
        y = top + (bottom - top) * (place + 0.5) / len(rows)
        x = axis(point.y)
        bar = _bar(y, axis(point.low), axis(point.high), upright=False) if point.interval else ""
        seeds = "".join(
            f'<circle class="dn-seed" cx="{axis(s):.1f}" cy="{y + 14:.1f}" r="3"/>' for s in point.seeds
        )
        shown = f'<text class="dn-name" x="{left - 14:.1f}" y="{y + 4:.1f}" text-anchor="end">{escape(name)}</text>'
        group = _group(f"{name}: {_value(point)}. {point.note}", bar + _marker(number, x, y) + seeds)
        parts.append(f'{shown}<g class="dn-s{_colour(number)}">{group}</g>')
    said = "; ".join(f"{name}: {_value(point)}" for _, name, point in rows)
    return _svg(id, title, f"{y_label}. {said}", y_label, parts)


def _svg(
    id: str, title: str, description: str, y_label: str, parts: Sequence[str], height: float = HEIGHT
) -> Markup:
    label = f'<text class="dn-axis" x="4" y="16">{escape(y_label)}</text>'
    return Markup(  # every text was escaped
        f'<svg class="dn-plot" viewBox="0 0 {WIDTH} {height:g}" role="img" data-search-exclude="1" '
        f'aria-labelledby="{id}-title {id}-desc"><title id="{id}-title">{escape(title)}</title>'
        f'<desc id="{id}-desc">{escape(description)}</desc>{label}{"".join(parts)}</svg>'
    )


def _frame(axis: _Axis, top: float) -> str:
    parts = []
    for tick in axis.ticks():
        y = axis(tick)
        parts.append(f'<path class="dn-grid" d="M{_LEFT} {y:.1f}H{WIDTH - _RIGHT}"/>')
        parts.append(
            f'<text class="dn-tick" x="{_LEFT - 8}" y="{y + 4:.1f}" text-anchor="end">{short(tick)}</text>'
        )
    return "".join(parts)


def _x_ticks(axis: _Axis, xs: Sequence[float], label: str, log: bool, height: float = HEIGHT) -> list[str]:
    """The places `xs` on the axis, with a label where there is room for it."""
    bottom = height - _BOTTOM
    parts = [f'<path class="dn-rule" d="M{_LEFT} {bottom:g}H{WIDTH - _RIGHT}"/>']
    free = -math.inf
    for value in xs:
        x = axis(value)
        parts.append(f'<path class="dn-rule" d="M{x:.1f} {bottom:g}v4"/>')
        width = _text_width(short(value))
        if x - width / 2 > free:
            parts.append(
                f'<text class="dn-tick" x="{x:.1f}" y="{bottom + 18:g}" text-anchor="middle">{short(value)}</text>'
            )
            free = x + width / 2 + 6
    middle = (_LEFT + WIDTH - _RIGHT) / 2
    said = f"{label} (log)" if log else label
    parts.append(
        f'<text class="dn-axis" x="{middle}" y="{height - 6:g}" text-anchor="middle">{escape(said)}</text>'
    )
    return parts


def _panel(text: str) -> str:
    return f'<text class="dn-axis" x="4" y="34">{escape(text)}</text>' if text else ""


def _panel_height(text: str) -> float:
    return 18.0 if text else 0.0


def _legend(names: Sequence[str], below: float = 0.0) -> tuple[str, float]:
    """The names with their markers, in as many rows as they need, and where the plot may begin.

    `below`: the height of what stands above the legend besides the label of the axis.
    """
    parts, x, y = [], 6.0, 38.0 + below
    for number, name in enumerate(names, 1):
        width = 22 + _text_width(name) + 14
        if x + width > WIDTH and x > 6:
            x, y = 6.0, y + 20
        marker = _marker(number, x + 8, y - 4)
        text = f'<text class="dn-name" x="{x + 20:.1f}" y="{y:.1f}">{escape(name)}</text>'
        parts.append(f'<g class="dn-s{_colour(number)}">{marker}</g>{text}')
        x += width
    return "".join(parts), y + 18


def _axis(values: Sequence[float], start: float, end: float, *, log: bool, pad: float) -> _Axis:
    low, high = min(values), max(values)
    if log:
        margin = max((high / low) ** pad, 1.0) if high > low else 2.0
        return _Axis(low / margin, high * margin, start, end, log)
    margin = (high - low) * pad if high > low else abs(high) * 0.5 or 1.0
    return _Axis(low - margin, high + margin, start, end, log)


def _nice(step: float) -> float:
    """The round number (1, 2, 2.5 or 5 times a power of ten) at or above a step."""
    power = 10.0 ** math.floor(math.log10(step))
    return next(m * power for m in (1, 2, 2.5, 5, 10) if m * power >= step * (1 - 1e-9))


def _marker(number: int, x: float, y: float) -> str:
    shape = _MARKERS[(number - 1) % len(_MARKERS)]
    if shape == "circle":
        return f'<circle class="dn-mark" cx="{x:.1f}" cy="{y:.1f}" r="5"/>'
    if shape == "square":
        return f'<rect class="dn-mark" x="{x - 4.5:.1f}" y="{y - 4.5:.1f}" width="9" height="9"/>'
    corners = (
        ((0, -6), (5.5, 4.5), (-5.5, 4.5)) if shape == "triangle" else ((0, -6.5), (6, 0), (0, 6.5), (-6, 0))
    )
    points = " ".join(f"{x + dx:.1f},{y + dy:.1f}" for dx, dy in corners)
    return f'<polygon class="dn-mark" points="{points}"/>'


def _bar(across: float, low: float, high: float, *, upright: bool) -> str:
    """An error bar with caps; `across` is its place on the other axis."""
    if upright:
        path = (
            f"M{across - 4:.1f} {low:.1f}h8M{across:.1f} {low:.1f}V{high:.1f}M{across - 4:.1f} {high:.1f}h8"
        )
    else:
        path = (
            f"M{low:.1f} {across - 5:.1f}v10M{low:.1f} {across:.1f}H{high:.1f}M{high:.1f} {across - 5:.1f}v10"
        )
    return f'<path class="dn-bar" d="{path}"/>'


def _group(tooltip: str, inside: str) -> str:
    return f"<g><title>{escape(tooltip)}</title>{inside}</g>"


def _value(point: Point) -> str:
    return measured(point.y, point.interval)


def _said(point: Point) -> str:
    return f"{short(point.x)}: {_value(point)}. {point.note}".rstrip()


def shortened(name: str, room: float = LONGEST_LABEL, kept: str = "") -> str:
    """The name and what is `kept` after it; the name is cut until both fit into so many units."""
    while _text_width(name + kept) > room:
        name = name.rstrip("…")[:-1] + "…"
    return name + kept


def _colour(number: int) -> int:
    return (number - 1) % 6 + 1


def _text_width(text: str) -> float:
    """About how wide a text of 13 units is; Hangul is square, capitals are wide."""
    return sum(13.0 if ord(character) > 0x10FF else 9.4 if character.isupper() else 7.3 for character in text)


def strip(labels: Sequence[str], *, id: str, title: str, description: str) -> Markup:
    """The site's emblem: a swiss roll under the forward process, from pure noise to clean data.

    Each panel shows x_t = sqrt(alpha_bar) x_0 + sqrt(1 - alpha_bar) eps for the same x_0 and eps at one value of
    alpha_bar, from 0 to 1; `labels` has a text for each panel, which may be empty.
    """
    size, gap, count = 150, 14, 300
    angles = [4.2 + 10.5 * math.sqrt((k + 0.5) / count) for k in range(count)]
    data = [(0.125 * a * math.cos(a), 0.125 * a * math.sin(a)) for a in angles]
    noise = _gaussians(2 * count)
    width = len(labels) * (size + gap) - gap
    parts = []
    for panel, (alpha_bar, label) in enumerate(zip(_ALPHA_BARS, labels, strict=True)):
        keep, add = math.sqrt(alpha_bar), math.sqrt(1 - alpha_bar)
        left = panel * (size + gap)
        path = []
        for k, (x, y) in enumerate(data):
            u, v = keep * x + add * noise[2 * k], keep * y + add * noise[2 * k + 1]
            if max(abs(u), abs(v)) < 2.3:
                path.append(f"M{left + size * (u / 4.8 + 0.5):.1f} {size * (0.5 - v / 4.8):.1f}h0")
        parts.append(f'<path class="dn-dust" d="{"".join(path)}"/>')
        parts.append(
            f'<text class="dn-tick" x="{left + size / 2:.0f}" y="{size + 22}" text-anchor="middle">{escape(label)}</text>'
        )
    return Markup(  # every text was escaped
        f'<svg class="dn-strip" viewBox="0 0 {width} {size + 32}" role="img" data-search-exclude="1" '
        f'aria-labelledby="{id}-title {id}-desc"><title id="{id}-title">{escape(title)}</title>'
        f'<desc id="{id}-desc">{escape(description)}</desc>{"".join(parts)}</svg>'
    )


def _gaussians(count: int) -> list[float]:
    """Standard normal numbers that are the same on every machine: Box-Muller on a linear congruence."""
    state, values = 20061123, []
    uniforms = []
    for _ in range(count + count % 2):
        state = (6364136223846793005 * state + 1442695040888963407) % 2**64
        uniforms.append(((state >> 11) + 0.5) / 2**53)
    for u, v in zip(uniforms[::2], uniforms[1::2], strict=True):
        radius = math.sqrt(-2 * math.log(u))
        values += [radius * math.cos(2 * math.pi * v), radius * math.sin(2 * math.pi * v)]
    return values
