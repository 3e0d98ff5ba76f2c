"""ILVR: its filter, what its step leaves alone, a known score, and what its reproduction claims."""

import pytest
import torch
from torch import Tensor

from denoised.diffusion.denoiser import Denoiser
from denoised.diffusion.random import SampleGenerators
from denoised.diffusion.schedule import Schedule, timesteps
from denoised.errors import DenoisedError
from denoised.lab.restoring import PERCEPTUAL
from denoised.metrics.perceptual import diversity, perceptual_distance
from runners.foundations import ddpm
from runners.guidance.ilvr import (
    DIVERSITY,
    Config,
    low_pass,
    network_rows,
    reproduce,
    sample,
)
from tests.runners.pixel_lab import pixel_lab


def white_denoiser() -> Denoiser:
    """The exact denoiser of white Gaussian pictures of deviation 0.2, which have no structure of their own."""
    schedule = Schedule.cosine()

    def network(x: Tensor, t: Tensor, _: Tensor | None) -> Tensor:
        a, s = schedule.signal_and_noise(int(t[0]), x)
        return a * 0.04 / (a**2 * 0.04 + s**2) * x

    return Denoiser(network, schedule, "sample")


def noise(seed: int, *shape: int) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def test_the_filter_is_linear_and_keeps_constants() -> None:
    a, b = noise(0, 2, 3, 16, 16), noise(1, 2, 3, 16, 16)
    for factor in (2, 4, 8, 16):
        torch.testing.assert_close(low_pass(a + 2 * b, factor), low_pass(a, factor) + 2 * low_pass(b, factor))
        constant = torch.full_like(a, 0.3)
        torch.testing.assert_close(low_pass(constant, factor), constant)
    assert torch.equal(low_pass(a, 1), a)
    torch.testing.assert_close(
        low_pass(a, 16), a.mean(dim=(2, 3), keepdim=True).expand_as(a), atol=0.1, rtol=0
    )


def test_a_larger_factor_keeps_less() -> None:
    x = noise(0, 8, 3, 16, 16)
    kept = [float(low_pass(x, factor).square().sum()) for factor in (1, 2, 4, 8, 16)]
    assert kept == sorted(kept, reverse=True) and kept[-1] < 0.05 * kept[0]


@pytest.mark.parametrize("factor", [2, 4, 8])
def test_samples_have_the_references_low_frequencies(factor: int) -> None:
    reference = 0.5 * low_pass(noise(1, 4, 3, 16, 16), 4)
    drawn = sample(
        white_denoiser(),
        noise(0, 4, 3, 16, 16),
        timesteps(1000, 15),
        reference=reference,
        factor=factor,
        generator=SampleGenerators(0, range(4)),
    )
    free = sample(
        white_denoiser(),
        noise(0, 4, 3, 16, 16),
        timesteps(1000, 15),
        reference=reference,
        factor=None,
        generator=SampleGenerators(0, range(4)),
    )
    target = low_pass(reference, factor)
    left, before = ((low_pass(x, factor) - target).square().mean() for x in (drawn, free))
    assert float(left) < 0.1 * float(before)  # φ_N is not quite a projection, or it would be 0
    assert float((drawn - reference).square().mean()) > float(left)  # what is above the filter is drawn


def test_a_factor_of_one_returns_the_reference_and_none_is_ddpm() -> None:
    x, grid, reference = noise(0, 3, 3, 8, 8), timesteps(1000, 8), 0.3 * noise(1, 3, 3, 8, 8)
    given = sample(
        white_denoiser(), x, grid, reference=reference, factor=1, generator=SampleGenerators(0, range(3))
    )
    torch.testing.assert_close(given, reference)
    free = sample(
        white_denoiser(), x, grid, reference=reference, factor=None, generator=SampleGenerators(0, range(3))
    )
    theirs = ddpm.sample(white_denoiser(), x, grid, generator=SampleGenerators(0, range(3)))
    torch.testing.assert_close(free, theirs)


def test_diversity_is_the_mean_distance_inside_a_group() -> None:
    maps = [noise(0, 6, 4, 5, 5).float(), noise(1, 6, 7, 2, 2).float()]
    found = diversity(maps, 3)
    for i in range(6):
        group = [j for j in range(i // 3 * 3, i // 3 * 3 + 3) if j != i]
        each = [perceptual_distance([m[[i]] for m in maps], [m[[j]] for m in maps]) for j in group]
        assert float(found[i]) == pytest.approx(float(torch.cat(each).mean()), rel=1e-5)
    same = [layer[:1].expand(4, -1, -1, -1) for layer in maps]
    assert diversity(same, 2).tolist() == [0, 0, 0, 0]
    for size in (1, 4):
        with pytest.raises(ValueError, match=f"6 samples do not fall into groups of {size}, of at least 2"):
            diversity(maps, size)


def test_reproduce_claims_along_the_factors() -> None:
    lab, config = pixel_lab(images=4), Config(factors=[2, 8], steps=3, per_reference=2)
    reproduce(lab, config)
    assert {arm.name: arm.calls for arm in lab.arms} == {"N=2": 3, "N=8": 3, "unconditional": 3}
    assert sum(arm.samples for arm in lab.arms) == network_rows(config, 4)
    first, _, last = lab.arms
    assert first.beside is not None and torch.equal(first.beside[0], first.beside[1])
    assert not torch.equal(first.beside[1], first.beside[2])
    low = "low-pass-rmse[N=2]"
    assert first.metrics[low].value < 0.5 * last.metrics[low].value
    assert [(c.metric, c.arm, c.relation, c.than) for c in lab.claims] == [
        (low, "N=2", "<", "unconditional"),
        ("low-pass-rmse[N=8]", "N=8", "<", "unconditional"),
        (PERCEPTUAL, "N=2", "<", "N=8"),
        (DIVERSITY, "N=2", "<", "N=8"),
        (PERCEPTUAL, "N=8", "<", "unconditional"),
        (DIVERSITY, "N=8", "<", "unconditional"),
    ]


def test_impossible_settings_are_refused() -> None:
    for factors in ([4], [4, 2], [1, 2]):
        with pytest.raises(ValueError, match="factors must be a rising list of two or more numbers"):
            Config(factors=factors)
    with pytest.raises(ValueError, match="steps must be at least 1, not 0"):
        Config(steps=0)
    with pytest.raises(ValueError, match="per_reference must be at least 2, not 1"):
        Config(per_reference=1)
    lab = pixel_lab()
    with pytest.raises(DenoisedError, match=r"factors must be from 2 to 16 and divide .* not 5"):
        reproduce(lab, Config(factors=[2, 5], per_reference=2))
    with pytest.raises(DenoisedError, match=r"per_reference=3.* 4"):
        reproduce(lab, Config(factors=[2, 4], per_reference=3))
    assert not lab.arms  # before any work
