"""What is known of a metric beside its value: direction, bounds, version, and how few samples are too few.

Every function of this package that returns a metric carries such facts as its attribute `facts`:

    @metric("fid", better="lower", low=0.0, least=2)
    def frechet_distance(a, b): ...

The lab takes direction and version from there, so a runner cannot get them wrong.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal, TypeVar

Function = TypeVar("Function", bound=Callable[..., Any])


@dataclass(frozen=True)
class Facts:
    """`low` and `high`: what the value can never pass, None where it has no bound.

    `least`: the fewest samples of which the function returns a value at all. `version` is raised whenever a
    change alters values.
    """

    name: str
    better: Literal["higher", "lower"]
    low: float | None = None
    high: float | None = None
    least: int = 1
    version: str = "1"


METRICS: dict[str, Facts] = {}  # by name, as the modules are imported


def metric(
    name: str,
    *,
    better: Literal["higher", "lower"],
    low: float | None = None,
    high: float | None = None,
    least: int = 1,
    version: str = "1",
) -> Callable[[Function], Function]:
    """Attach facts to a metric's function and list them in METRICS. ValueError for a name given twice."""
    facts = Facts(name, better, low, high, least, version)

    def attach(function: Function) -> Function:
        if name in METRICS:
            raise ValueError(f"two metrics are called {name!r}")
        METRICS[name] = facts
        function.facts = facts  # type: ignore[attr-defined]
        return function

    return attach
