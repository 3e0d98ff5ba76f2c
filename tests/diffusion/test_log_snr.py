"""Known schedules as γ: what makes each what it is called. Ends, slopes and monotony: `tests/runners/test_vdm.py`."""

from __future__ import annotations

import math

import pytest
import torch

from denoised.diffusion.log_snr import beta_linear, cosine, linear
from denoised.diffusion.schedule import Schedule
from denoised.diffusion.sde import VP

T = torch.linspace(0, 1, 11, dtype=torch.float64)


def test_a_linear_one_spends_equal_times_on_equal_stretches_of_gamma() -> None:
    gamma, slope = linear(-13.3, 5.0)(T)
    torch.testing.assert_close(gamma.diff(), torch.full((10,), 1.83, dtype=torch.float64))
    torch.testing.assert_close(slope, torch.full_like(T, 18.3))


def test_a_cosine_one_turns_evenly() -> None:
    """α = sqrt(sigmoid(-γ)) = cos φ with φ on a line."""
    gamma, _ = cosine(-13.3, 5.0)(T)
    angles = torch.sigmoid(-gamma).sqrt().acos()
    torch.testing.assert_close(angles.diff(), angles.diff().mean().expand(10))


def test_the_discrete_cosine_schedule_is_nearly_a_stretch_of_it() -> None:
    """Nichol & Dhariwal's before its betas are cut; it divides ᾱ by its value at the start, which is almost 1."""
    schedule = Schedule.cosine()
    found = -torch.tensor([schedule.snr(t) for t in (99, 499, 899)], dtype=torch.float64).log()
    low, high = float(found[0]), float(found[-1])
    gamma, _ = cosine(low, high)(torch.tensor([0.0, 0.5, 1.0], dtype=torch.float64))
    torch.testing.assert_close(gamma, found, rtol=0, atol=1e-3)


def test_a_beta_linear_one_is_the_vp_sde_between_the_ends() -> None:
    first, last = 0.2, 0.9

    def gamma_at(t: float) -> float:
        a, s = VP().marginal(t)
        return 2 * math.log(s / a)

    gamma, _ = beta_linear(gamma_at(first), gamma_at(last))(T)
    expected = [gamma_at(first + (last - first) * t) for t in T.tolist()]
    assert gamma.tolist() == pytest.approx(expected)
