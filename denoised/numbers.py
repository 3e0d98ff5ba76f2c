"""Numbers as pages and model cards write them: as many digits as the uncertainty leaves."""

from __future__ import annotations

import math

MINUS = "\u2212"


def decimals(half_width: float) -> int:
    """How many decimals leave two significant digits of an uncertainty; between 0 and 6."""
    if half_width <= 0:
        return 4
    return min(max(1 - math.floor(math.log10(half_width)), 0), 6)


def fixed(value: float, places: int) -> str:
    """The value with that many decimals and a real minus sign; never a negative zero."""
    text = f"{value:.{places}f}"
    if float(text) == 0:
        text = text.lstrip("-")
    return text.replace("-", MINUS)


def short(value: float) -> str:
    """A number to four significant digits, without trailing zeros or exponents a reader must decode."""
    if value and not 1e-4 <= abs(value) < 1e7:
        return f"{value:.3g}".replace("-", MINUS)
    places = max(0, 3 - math.floor(math.log10(abs(value)))) if value else 0
    text = f"{value:.{places}f}"
    return (text.rstrip("0").rstrip(".") if "." in text else text).replace("-", MINUS)


def measured(value: float, interval: tuple[float, float] | None, places: int | None = None) -> str:
    """`12.10 ± 0.90`, the half width of the 95 % interval after the sign; `12.1` where there is no interval.

    `places`: this many decimals, instead of as many as the interval leaves.
    """
    if interval is None:
        return short(value)
    half = (interval[1] - interval[0]) / 2
    shown = decimals(half) if places is None else places
    return f"{fixed(value, shown)} ± {fixed(half, shown)}"


def between(interval: tuple[float, float]) -> str:
    """`[−14.5, −11.5]`."""
    places = decimals((interval[1] - interval[0]) / 2)
    return f"[{fixed(interval[0], places)}, {fixed(interval[1], places)}]"


def percent(share: float, *, apart_from: float | None = None) -> str:
    """A share as `96.1 %`, with a digit more, up to three, where rounding would make it all or nothing.

    `apart_from`: another share it must not look like unless it is the same: 0.9797 beside a floor of 0.98 is
    `97.97 %`.
    """
    for places in (1, 2, 3):
        text = f"{100 * share:.{places}f}"
        alike = [other for other in (0.0, 1.0, apart_from) if other is not None and other != share]
        if all(float(text) != round(100 * other, places) for other in alike):
            break
    return f"{text.rstrip('0').rstrip('.')} %"


def wilson(share: float, n: int) -> tuple[float, float]:
    """The 95 % interval of a share that was counted in `n` independent cases (Wilson, 1927)."""
    z = 1.959964
    middle = (share + z * z / (2 * n)) / (1 + z * z / n)
    half = z / (1 + z * z / n) * math.sqrt(share * (1 - share) / n + z * z / (4 * n * n))
    return max(0.0, middle - half), min(1.0, middle + half)
