"""Classifier-free guidance: Eq. 6, its cost, what it refuses, and Gaussian classes where its effect is known."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import Tensor

from denoised.cli import main
from denoised.diffusion.denoiser import Denoiser
from denoised.diffusion.guidance import guide, guided
from denoised.diffusion.random import SampleGenerators
from denoised.diffusion.schedule import Schedule, timesteps
from denoised.errors import DenoisedError, Exit
from denoised.lab.record import read_record
from runners.foundations import ddpm
from runners.guidance.cfg import Config, guided_eps, network_rows, reproduce, sample
from tests.runners.pixel_lab import pixel_lab

SPREAD, CENTRES = 0.3, (-0.5, 0.5)  # two classes N(±0.5, 0.3²), drawn equally often


def two_gaussians() -> Denoiser:
    """The exact denoiser of two Gaussian classes; class 2 is the null class, their mixture."""
    schedule = Schedule.cosine()

    def network(x: Tensor, t: Tensor, condition: Tensor | None) -> Tensor:
        assert condition is not None
        a, s = schedule.signal_and_noise(t, x)
        variance = a**2 * SPREAD**2 + s**2
        of_class = [centre + a * SPREAD**2 / variance * (x - a * centre) for centre in CENTRES]
        # The posterior of the second class: a logistic function of x.
        second = torch.sigmoid(a * (CENTRES[1] - CENTRES[0]) / variance * x)
        mixture = (1 - second) * of_class[0] + second * of_class[1]
        chosen = torch.stack([*of_class, mixture])
        return chosen[condition, torch.arange(len(x))]

    return Denoiser(network, schedule, "sample")


@pytest.mark.parametrize("w", [0.0, 0.3, 4.0])
def test_equation_6_is_what_guidance_computes(w: float) -> None:
    random = torch.Generator().manual_seed(0)
    null, condition = (torch.randn(2, 3, generator=random, dtype=torch.float64) for _ in range(2))
    torch.testing.assert_close(guided_eps(null, condition, w), guide(null, condition, 1 + w))


def test_guiding_the_network_guides_eps() -> None:
    x = torch.linspace(-1, 1, 6, dtype=torch.float64).reshape(6, 1)
    classes, null = torch.tensor([0, 1] * 3), torch.full((6,), 2)
    eps_null, eps_class = (two_gaussians()(x, 500, each).eps for each in (null, classes))
    found = guided(two_gaussians(), 2, 3.0)(x, 500, classes).eps
    torch.testing.assert_close(found, guided_eps(eps_null, eps_class, 2.0))


def test_guidance_pushes_classes_apart_and_narrows_them() -> None:
    """Fig. 2 of the paper: away from what the other class may also be, and with less variety."""
    n = 400
    classes = torch.arange(n) % 2
    drawn = {}
    for scale in (1.0, 4.0):
        x = torch.randn(n, 1, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
        drawn[scale] = sample(
            guided(two_gaussians(), 2, scale),
            x,
            timesteps(1000, 100),
            clip=False,
            condition=classes,
            generator=SampleGenerators(1, range(n)),
        )
    plain, pushed = (drawn[scale][classes == 1] for scale in (1.0, 4.0))
    assert plain.mean().item() == pytest.approx(CENTRES[1], abs=0.07)
    assert plain.std().item() == pytest.approx(SPREAD, rel=0.15)
    assert pushed.mean() > plain.mean() + 0.05
    assert pushed.std() < 0.9 * plain.std()
    assert bool((pushed > 0).double().mean() > (plain > 0).double().mean())


@pytest.mark.parametrize("clip", [False, True])
def test_scale_one_is_ancestral_sampling(clip: bool) -> None:
    x = torch.randn(4, 1, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    grid, classes = timesteps(1000, 12), torch.tensor([0, 1, 0, 1])
    denoiser = guided(two_gaussians(), 2, 1.0)
    ours = sample(denoiser, x, grid, clip=clip, condition=classes, generator=SampleGenerators(3, range(4)))
    theirs = ddpm.sample(
        two_gaussians(), x, grid, variance="small", clip=clip, condition=classes,
        generator=SampleGenerators(3, range(4)),
    )  # fmt: skip
    torch.testing.assert_close(ours, theirs, rtol=1e-9, atol=1e-9)
    assert denoiser.samples == 12 * 4


def test_clipped_guidance_ends_inside_the_data_range() -> None:
    x = torch.randn(64, 1, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    reach = []
    for clip in (False, True):
        drawn = sample(
            guided(two_gaussians(), 2, 9.0), x, timesteps(1000, 20), clip=clip,
            condition=torch.arange(64) % 2, generator=SampleGenerators(1, range(64)),
        )  # fmt: skip
        reach.append(float(drawn.abs().max()))
    assert reach[1] <= 1 < reach[0]


def test_reproduce_guides_one_network_at_rising_scales() -> None:
    lab, config = pixel_lab(images=6, batch=4), Config(steps=2, scales=[1.5, 6.0])
    reproduce(lab, config)
    assert [(arm.name, arm.settings["scale"], arm.samples) for arm in lab.arms] == [
        ("unguided", 1.0, 12),
        ("guided-1.5", 1.5, 24),
        ("guided-6", 6.0, 24),
    ]
    assert all(arm.calls == 2 for arm in lab.arms)
    assert sum(arm.samples for arm in lab.arms) == network_rows(config, images=6)
    assert all({"class-accuracy[emoji-judge]", "is[emoji-judge]"} <= set(arm.metrics) for arm in lab.arms)
    plain, little, much = (arm.images for arm in lab.arms)
    assert plain is not None and little is not None and much is not None
    assert 0 < float((little - plain).abs().mean()) < float((much - plain).abs().mean())
    assert [(c.metric.split("[")[0], c.arm, c.relation, c.than) for c in lab.claims] == [
        ("fid", "guided-1.5", "<", "unguided"),
        ("fid", "guided-1.5", "<", "guided-6"),
        ("precision", "guided-6", ">", "unguided"),
        ("recall", "guided-6", "<", "unguided"),
        ("class-accuracy", "guided-6", ">", "unguided"),
        ("is", "guided-1.5", ">", "unguided"),
        ("is", "guided-6", ">", "guided-1.5"),
    ]


@pytest.mark.parametrize("scales", [[], [2.0], [1.0, 2.0], [3.0, 2.0], [2.0, 2.0], [0.5, 2.0]])
def test_scales_that_are_none_are_refused(scales: list[float]) -> None:
    with pytest.raises(ValueError, match="scales must be a rising list of at least 2 numbers above 1"):
        Config(scales=scales)


def test_no_steps_are_refused() -> None:
    with pytest.raises(ValueError, match="steps must be at least 1, not 0"):
        Config(steps=0)


def test_an_unconditional_network_cannot_be_guided() -> None:
    lab = pixel_lab(classes=None)
    with pytest.raises(DenoisedError, match="emoji-pixel cannot be guided"):
        reproduce(lab, Config(steps=1))
    assert not lab.arms


def test_the_paper_scale_says_which_network_it_needs(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DENOISED_LANG", "en")
    assert main(["run", "cfg", "scale=paper", "device=cpu", "--out", str(tmp_path)]) == Exit.USAGE
    assert "model=FOLDER" in capsys.readouterr().err


def test_the_paper_scale_is_rehearsed(tmp_path: Path) -> None:
    assert main(["run", "cfg", "scale=paper", "--rehearse", "seeds=[0]", "--out", str(tmp_path)]) == Exit.OK
    record = read_record(tmp_path / "cfg" / "rehearsal.json", paper="cfg")
    assert [arm.name for arm in record.arms] == ["unguided", "guided-2", "guided-5"]
