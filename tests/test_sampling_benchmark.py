"""What benchmarks/sampling.py times is the same work: our samplers draw what diffusers draws, with as many evaluations."""

from __future__ import annotations

import pytest
import torch

from benchmarks.sampling import (
    PIXEL,
    QUICK,
    TOLERANCE,
    Row,
    against,
    ddim_16,
    dpm_solver_2,
    guided_traced,
    kept_text,
    scheduler_step,
)
from denoised.site.sampling import Row as SiteRow


def agrees(row: Row) -> bool:
    return row.difference <= TOLERANCE and row.ours > 0 and row.theirs > 0


@pytest.mark.skipif(not PIXEL.is_dir(), reason="zoo/emoji-pixel is not there")
@pytest.mark.parametrize("measure", [ddim_16, dpm_solver_2], ids=["ddim", "dpm-solver-2"])
def test_solvers_draw_what_diffusers_draws_with_as_many_evaluations(measure: object) -> None:
    row = measure(QUICK)  # type: ignore[operator]
    assert agrees(row) and row.nfe == QUICK.steps


def test_a_step_without_the_network_is_that_of_diffusers() -> None:
    assert agrees(scheduler_step(QUICK))


@pytest.mark.text_to_image
def test_a_kept_text_changes_no_bit_of_a_guided_picture() -> None:
    row = kept_text(QUICK)
    assert row.difference == 0 and row.nfe == QUICK.steps


@pytest.mark.text_to_image
def test_a_recorded_network_draws_what_the_pipeline_draws() -> None:
    row = guided_traced(QUICK)
    assert agrees(row) and row.nfe == QUICK.steps


def test_sides_that_differ_are_not_timed() -> None:
    with pytest.raises(RuntimeError, match=r"wrong: the sides differ by 1\.0e-03 after 0 and 0 evaluations"):
        against("wrong", lambda: torch.zeros(1), lambda: torch.full((1,), 1e-3), 1)
    network = torch.nn.Identity()
    x = torch.zeros(1)
    with pytest.raises(RuntimeError, match="after 1 and 2 evaluations"):
        against("wrong", lambda: network(x), lambda: network(network(x)), 1, {network})


def test_the_site_reads_what_is_written() -> None:
    assert SiteRow.model_fields.keys() == Row.__dataclass_fields__.keys()
