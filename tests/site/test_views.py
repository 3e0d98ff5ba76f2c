"""What a paper's page draws of a record: which arms share a plot, and what they are called there."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

from denoised.lab.record import write_record
from denoised.site.library import gather
from denoised.site.views import plots, record_view
from denoised.site.words import load_words
from tests.site.samples import FID, ROOT, arm, claim, png, record_of

WORDS = load_words(ROOT / "site" / "strings.yaml")


def drawn(root: Path, arms: list[dict[str, Any]]) -> list[str]:
    """The plots of the Fréchet distance on DDIM's page, with these arms for its record."""
    write_record(
        root / "papers" / "ddim" / "results",
        "mini",
        record_of(root, "ddim", arms, []),
        {"sample.png": png(8, 8, 1)},
    )
    (item,) = [each for each in gather(root).items if each.paper.id == "ddim"]
    found = [str(each["svg"]) for each in plots(item, "mini", WORDS, "en")]
    return [svg for svg in found if FID in svg]


def names(svg: str) -> list[str]:
    return re.findall(r'class="dn-name"[^>]*>([^<]*)<', svg)


def test_arms_that_differ_in_cost_share_a_plot(project: Path) -> None:
    arms = [arm(name, {"steps": n}, [9.0, 8.0, 7.0], n) for name in ("ddim", "ddpm") for n in (5, 10)]
    (svg,) = drawn(project, arms)
    assert names(svg) == ["ddim", "ddpm"] and svg.count('class="dn-line"') == 2


def test_what_one_arm_has_twice_at_equal_cost_is_drawn_apart(project: Path) -> None:
    arms = [
        arm(name, {"nfe": n, "sde": sde}, [9.0, 8.0, 7.0], n)
        for name in ("predictor", "corrector")
        for sde in ("ve", "vp")
        for n in (16, 48)
    ]
    ve, vp = drawn(project, arms)
    for svg, panel in ((ve, "sde = ve"), (vp, "sde = vp")):
        assert f">{panel}</text>" in svg and names(svg) == ["predictor", "corrector"]
        assert svg.count('class="dn-line"') == 2 and svg.count('class="dn-mark"') == 2 + 4


def test_arms_without_a_cost_to_compare_are_named_without_their_settings(project: Path) -> None:
    arms = [arm(f"guided-{w}", {"w": w, "steps": 10}, [9.0, 8.0, 7.0], 10) for w in (1, 3)]
    (svg,) = drawn(project, arms)
    assert names(svg) == ["guided-1", "guided-3"] and 'class="dn-line"' not in svg


@pytest.mark.parametrize(("relation", "printed"), [("<", "<"), (">=", "≥"), ("<=", "≤")])
def test_a_relation_is_printed_as_mathematics_writes_it(project: Path, relation: str, printed: str) -> None:
    arms = [arm(name, {}, values, 10) for name, values in (("a", [5.0, 5.1, 5.0]), ("b", [5.0, 5.0, 5.1]))]
    decided = claim(arms, 0, 1, {}) | {"relation": relation, "verdict": "inconclusive"}
    record = record_of(project, "ddim", arms, [decided])
    write_record(project / "papers" / "ddim" / "results", "mini", record, {"sample.png": png(8, 8, 1)})
    (item,) = [each for each in gather(project).items if each.paper.id == "ddim"]
    view = record_view(item, "mini", WORDS, "en")
    assert view is not None and [each.relation for each in view.claims] == [printed]
