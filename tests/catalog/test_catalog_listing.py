"""How a paper stands: the verdicts of its published record over all its claims."""

from __future__ import annotations

from pathlib import Path
from statistics import fmean
from typing import Any

import pytest

from denoised.catalog import load
from denoised.catalog.listing import STANDINGS, full, standing
from denoised.lab.record import write_record
from denoised.lab.verdicts import interval, verdict

CATALOG = load(Path(__file__).parent / "fixtures" / "valid.yaml")
DDIM = CATALOG.paper("ddim")
HEX = "ab" * 32


def per_seed(values: list[float]) -> list[dict[str, Any]]:
    return [{"seed": seed, "value": value} for seed, value in enumerate(values)]


def metric(name: str, values: list[float]) -> dict[str, Any]:
    return {
        "name": name,
        "value": fmean(values),
        "n": 64,
        "per_seed": per_seed(values),
        "interval": interval(values),
        "interval_over": "seeds" if len(values) > 1 else None,
        "higher_is_better": False,
        "bounds": (None, None),
        "implementation": {"name": "denoised", "version": "1"},
        "extractor": None,
        "reference": None,
    }


def publish(root: Path, *differences: list[float]) -> Path:
    """A record of DDIM with one claim for each list: what DDIM scored above the baseline, seed by seed."""
    metrics = {f"m{index}": values for index, values in enumerate(differences)}
    cost = {"network_calls": 1, "network_samples": 64, "seconds": 1.0, "images_per_second": None}
    cost |= {"peak_memory_mb": None, "parameters_trained": 0}
    arms = [
        {
            "name": name,
            "settings": {"steps": 10},
            "metrics": [metric(each, [base + sign * d for d in values]) for each, values in metrics.items()],
            "cost": cost,
        }
        for name, base, sign in (("ddim", 5.0, 1), ("ddpm", 5.0, 0))
    ]
    claims = [
        {
            "metric": name,
            "arm": "ddim",
            "relation": "<",
            "than": "ddpm",
            "at": {"steps": 10},
            "verdict": verdict("<", interval(values)),
            "effect": fmean(values),
            "interval": interval(values),
            "margin": 0.0,
            "per_seed": per_seed(values),
        }
        for name, values in metrics.items()
    ]
    record = {
        "key": HEX,
        "paper": {"id": "ddim", "entry_sha256": HEX},
        "seeds": {"asked": [0, 1, 2], "finished": [0, 1, 2]},
        "config": {},
        "arms": arms,
        "claims": claims,
        "environment": {
            **dict.fromkeys(("python", "torch", "diffusers", "numpy", "platform", "cpu"), "1"),
            "threads": 2,
            **dict.fromkeys(("gpu", "driver", "container")),
        },
        "code": {"version": "0.1.0", "commit": None, "dirty": None, "runner_sha256": HEX},
        "inputs": [],
        "pictures": [],
        "time": {
            "started": "2026-01-01T00:00:00+00:00",
            "finished": "2026-01-01T00:01:00+00:00",
            "seconds": 60.0,
        },
    }
    return write_record(root / "papers" / "ddim" / "results", "mini", record, {})


BELOW, ABOVE, AROUND = [-2.0, -2.1, -1.9], [2.0, 2.1, 1.9], [-1.0, 1.0, 0.1]


@pytest.mark.parametrize(
    ("differences", "expected"),
    [
        ([BELOW], "holds"),
        ([ABOVE], "fails"),
        ([AROUND], "inconclusive"),
        ([BELOW, BELOW], "holds"),
        ([BELOW, AROUND], "inconclusive"),
        ([BELOW, AROUND, ABOVE], "fails"),
    ],
)
def test_a_paper_stands_by_all_its_claims(
    tmp_path: Path, differences: list[list[float]], expected: str
) -> None:
    publish(tmp_path, *differences)
    assert standing(DDIM, tmp_path) == expected


def test_a_changed_byte_or_another_papers_record_is_unverified(tmp_path: Path) -> None:
    path = publish(tmp_path, BELOW)
    other = tmp_path / "papers" / "ddpm" / "results" / "mini.json"
    other.parent.mkdir(parents=True)
    other.write_bytes(path.read_bytes())
    assert standing(CATALOG.paper("ddpm"), tmp_path) == "unverified"
    path.write_bytes(path.read_bytes().replace(b'"threads": 2', b'"threads": 3'))
    assert standing(DDIM, tmp_path) == "unverified"


def test_a_link_is_not_followed_to_a_record(tmp_path: Path) -> None:
    path = publish(tmp_path, BELOW)
    path.rename(tmp_path / "elsewhere.json")
    path.symlink_to(tmp_path / "elsewhere.json")
    assert standing(DDIM, tmp_path) == "unverified"


def test_show_lists_the_claims_with_their_intervals(tmp_path: Path) -> None:
    publish(tmp_path, BELOW, AROUND)
    text = full(DDIM, CATALOG, tmp_path, "en")
    assert "  inconclusive (mini): papers/ddim/results/mini.json\n" in text
    assert "  m0: ddim < ddpm (steps=10): holds, -2 [-2.248, -1.752]\n" in text
    assert "  m1: ddim < ddpm (steps=10): inconclusive, +0.03333 [-2.455, 2.522]\n" in text
    assert "  denoised run ddim\n" in text


def test_standings_have_a_name_each_in_both_languages() -> None:
    for language in ("ko", "en"):
        assert len({phrase.ko if language == "ko" else phrase.en for phrase in STANDINGS.values()}) == 7
