"""Classifier guidance against Bayes' rule in closed form, against unguided samplers, and in a tiny run."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from math import sqrt
from pathlib import Path

import pytest
import torch
from torch import Tensor

from denoised.cli import main
from denoised.diffusion.denoiser import Denoiser, Prediction
from denoised.diffusion.random import SampleGenerators
from denoised.diffusion.reverse import posterior
from denoised.diffusion.samplers import ddim
from denoised.diffusion.schedule import Schedule, timesteps
from denoised.errors import DenoisedError, Exit
from denoised.lab.record import read_record
from denoised.zoo.noisy_classifier import Guide, NoisyClassifier
from runners.foundations import ddpm
from runners.guidance.adm import (
    Config,
    class_gradient,
    guided,
    make_guide,
    network_rows,
    reproduce,
    sample,
    train_guide,
)
from tests.runners.pixel_lab import SIZE, pixel_lab

MEAN, DEVIATION = 0.6, 0.3  # class 0 is N(MEAN, DEVIATION²) in every coordinate, class 1 N(-MEAN, DEVIATION²)


def spread(schedule: Schedule, t: Tensor, like: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """a, s and the variance of x_t within a class."""
    a, s = schedule.signal_and_noise(t, like)
    return a, s, a**2 * DEVIATION**2 + s**2


def linear_classifier(schedule: Schedule) -> Callable[[Tensor, Tensor], Tensor]:
    """Bayes' classifier of the two Gaussians: its logits are linear in x_t."""

    def logits(x: Tensor, t: Tensor) -> Tensor:
        a, _, variance = spread(schedule, t, x)
        each = a * MEAN * x / variance  # half the log odds of a coordinate
        total = each.flatten(1).sum(dim=1)
        return torch.stack([total, -total], dim=1)

    return logits


def denoiser_of_classes(schedule: Schedule) -> Denoiser:
    """The exact x0 of the two Gaussians: of a class where one is given, of their mixture where none is."""

    def network(x: Tensor, t: Tensor, condition: Tensor | None) -> Tensor:
        a, _, variance = spread(schedule, t, x)
        gain = a * DEVIATION**2 / variance

        def of(mean: float) -> Tensor:
            return mean + gain * (x - a * mean)

        if condition is None:
            weight = linear_classifier(schedule)(x, t).softmax(dim=1)
            first, second = (weight[:, i].reshape(-1, *[1] * (x.ndim - 1)) for i in (0, 1))
            return first * of(MEAN) + second * of(-MEAN)
        chosen = (condition == 0).reshape(-1, *[1] * (x.ndim - 1))
        return torch.where(chosen, of(MEAN), of(-MEAN))

    return Denoiser(network, schedule, "sample")


def draw(*shape: int) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(3), dtype=torch.float64)


def test_the_gradient_is_the_analytic_one_of_a_linear_classifier() -> None:
    schedule, x, classes = Schedule.cosine(), draw(6, 1, 2, 2), torch.tensor([0, 1, 0, 1, 1, 0])
    for t in (20, 400, 900):
        a, _, variance = spread(schedule, torch.tensor(t), x)
        sign = (1 - 2 * classes).reshape(-1, 1, 1, 1)
        log_odds = sign.flatten(1) * 2 * a * MEAN / variance * x.flatten(1).sum(dim=1, keepdim=True)
        doubt = 1 - log_odds.sigmoid()  # 1 - p(y | x_t)
        expected = doubt.reshape(-1, 1, 1, 1) * sign * 2 * a * MEAN / variance
        found = class_gradient(linear_classifier(schedule), x, t, classes)
        torch.testing.assert_close(found, expected.expand_as(x))


def test_a_gradient_is_taken_of_what_a_denoiser_returned_too() -> None:
    """Its predictions come out of inference mode, which forbids gradients."""
    schedule = Schedule.cosine()
    prediction = denoiser_of_classes(schedule)(draw(2, 1, 2, 2), 500)
    gradient = class_gradient(linear_classifier(schedule), prediction.x0, 300, torch.tensor([0, 1]))
    assert float(gradient.abs().min()) > 0 and not gradient.requires_grad


@pytest.mark.parametrize("t", [10, 300, 700, 950])
def test_equation_14_with_the_true_classifier_is_bayes_rule(t: int) -> None:
    """eps of the mixture, guided at s = 1, is eps of the class."""
    schedule, x, classes = Schedule.cosine(), draw(8, 1, 2, 2), torch.arange(8) % 2
    denoiser = denoiser_of_classes(schedule)
    gradient = class_gradient(linear_classifier(schedule), x, t, classes)
    found, of_class = guided(denoiser(x, t), gradient, 1.0), denoiser(x, t, classes)
    torch.testing.assert_close(found.eps, of_class.eps)
    torch.testing.assert_close(found.x0, of_class.x0)
    shift = found.eps - denoiser(x, t).eps
    torch.testing.assert_close(shift, -sqrt(1 - float(schedule.alpha_bar(t))) * gradient)
    x_t = found.a * found.x0 + found.s * found.eps
    torch.testing.assert_close(x_t, x)


def test_algorithm_2_with_the_true_classifier_samples_the_class() -> None:
    schedule, x, classes = Schedule.cosine(), draw(10, 1, 2, 2), torch.arange(10) % 2
    grid, classifier = timesteps(1000, 20, "trailing"), linear_classifier(Schedule.cosine())
    found = sample(
        denoiser_of_classes(schedule),
        x,
        grid,
        gradient=lambda x, t: class_gradient(classifier, x, t, classes),
        scale=1.0,
        sampler="ddim",
        clip=False,
        generator=SampleGenerators(0, range(10)),
    )
    expected = ddim(denoiser_of_classes(schedule), x, grid, condition=classes)
    torch.testing.assert_close(found, expected, atol=1e-8, rtol=1e-8)


def test_algorithm_1_tends_to_the_class_as_steps_grow() -> None:
    """Its mean shift is right to first order in the step, so the distance to the class's mean falls with steps."""
    schedule, n = Schedule.cosine(), 400
    classifier, classes = linear_classifier(schedule), torch.zeros(n, dtype=torch.int64)
    x, off = draw(n, 1, 1, 1), []
    for steps in (5, 20, 200):
        drawn = sample(
            denoiser_of_classes(schedule),
            x,
            timesteps(1000, steps, "trailing"),
            gradient=lambda x, t: class_gradient(classifier, x, t, classes),
            scale=1.0,
            clip=False,
            generator=SampleGenerators(0, range(n)),
        )
        off.append(abs(float(drawn.mean()) - MEAN))
    assert off[2] < 0.05 and off[2] < off[1] < off[0]
    assert float((drawn > 0).double().mean()) > 0.95


def test_algorithm_1_moves_the_mean_by_the_variance_times_the_gradient() -> None:
    """One step with a constant gradient: N(μ + s Σ g, Σ), the product of N(μ, Σ) and exp(s g·x)."""
    schedule, x = Schedule.cosine(), draw(3, 1, 2, 2)
    denoiser = denoiser_of_classes(schedule)
    _, variance = posterior(x, denoiser(x, 600), 600, 400, schedule)
    after = []
    for scale in (0.0, 2.5):

        def constant(x: Tensor, t: int) -> Tensor:
            return torch.full_like(x, 0.7 if t == 600 else 0.0)

        steps: list[Tensor] = []

        def spy(x: Tensor, t: Tensor, condition: Tensor | None, steps: list[Tensor] = steps) -> Tensor:
            steps.append(x)
            return denoiser.network(x, t, condition)

        sample(
            Denoiser(spy, schedule, "sample"),
            x,
            [600, 400],
            gradient=constant,
            scale=scale,
            clip=False,
            generator=SampleGenerators(0, range(3)),
        )
        after.append(steps[1])
    torch.testing.assert_close(after[1] - after[0], torch.full_like(x, 2.5 * variance * 0.7))


@pytest.mark.parametrize("clip", [False, True])
def test_scale_zero_is_plain_sampling_and_asks_no_classifier(clip: bool) -> None:
    schedule, x, classes = Schedule.cosine(), draw(4, 1, 2, 2), torch.tensor([0, 1, 1, 0])
    grid = timesteps(1000, 7, "trailing")

    def never(x: Tensor, t: int) -> Tensor:
        raise AssertionError("the classifier was asked")

    for condition in (None, classes):
        found = sample(
            denoiser_of_classes(schedule), x, grid, gradient=never, scale=0.0, clip=clip,
            condition=condition, generator=SampleGenerators(5, range(4)),
        )  # fmt: skip
        plain = ddpm.sample(
            denoiser_of_classes(schedule), x, grid, variance="small", clip=clip,
            condition=condition, generator=SampleGenerators(5, range(4)),
        )  # fmt: skip
        torch.testing.assert_close(found, plain, rtol=1e-10, atol=1e-10)
    found = sample(
        denoiser_of_classes(schedule), x, grid, gradient=never, scale=0.0, sampler="ddim", clip=False,
        generator=SampleGenerators(5, range(4)),
    )  # fmt: skip
    torch.testing.assert_close(found, ddim(denoiser_of_classes(schedule), x, grid), rtol=1e-10, atol=1e-10)


def test_algorithm_2_stays_in_range_whatever_the_classifier_says_of_noise() -> None:
    """At T - 1 of the cosine schedule a guided x0 is anything; clipped, the pictures are finite and in range."""
    schedule, x = Schedule.cosine(), draw(3, 1, 4, 4)
    drawn = sample(
        denoiser_of_classes(schedule), x, timesteps(1000, 5, "trailing"),
        gradient=lambda x, t: torch.ones_like(x), scale=10.0, sampler="ddim", generator=SampleGenerators(0, range(3)),
    )  # fmt: skip
    assert float(drawn.abs().max()) <= 1
    wild = guided(Prediction(x, x, *schedule.signal_and_noise(999, x)), torch.ones_like(x), 10.0)
    assert float(wild.x0.abs().max()) > 1e3


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        ({"sampler": "euler"}, "sampler must be ancestral or ddim, not 'euler'"),
        ({"scales": [1.0, 0.5]}, "scales must be a rising list of numbers above 0"),
        ({"scales": [0.0, 1.0]}, "scales must be a rising list of numbers above 0"),
        ({"networks": ["both"]}, "networks must be a list out of unconditional, conditional"),
        ({"steps": 0}, "steps and guide_batch must be at least 1"),
    ],
)
def test_impossible_settings_are_refused(settings: dict[str, object], says: str) -> None:
    with pytest.raises(ValueError, match=says):
        Config(**settings)  # type: ignore[arg-type]


def test_a_network_without_classes_cannot_be_conditional() -> None:
    with pytest.raises(DenoisedError, match="this network knows no classes"):
        reproduce(pixel_lab(classes=None), Config(guide_steps=1))


def test_a_classifier_of_other_pictures_or_noise_is_refused() -> None:
    lab = pixel_lab()
    for network, schedule in (
        (NoisyClassifier(48, 32, [8, 16]), Schedule.cosine()),
        (NoisyClassifier(48, SIZE, [8, 16]), Schedule.linear()),
        (NoisyClassifier(10, SIZE, [8, 16]), Schedule.cosine()),
    ):
        lab.inputs.noisy_classifier = Guide(network, schedule)
        with pytest.raises(DenoisedError, match="differ in size of pictures, classes or noise schedule"):
            make_guide(lab, Config())


def test_a_guide_learns_what_noise_leaves_of_the_classes() -> None:
    """Dark pictures against bright ones: told apart in some noise, and not where nothing else is left."""

    def batches() -> Iterator[tuple[Tensor, Tensor]]:
        generator = torch.Generator().manual_seed(1)
        while True:
            classes = torch.randint(2, (32,), generator=generator)
            yield (0.8 * (2.0 * classes - 1)).reshape(-1, 1, 1, 1).expand(-1, 3, SIZE, SIZE), classes

    torch.manual_seed(0)
    network, schedule = NoisyClassifier(2, SIZE, [8, 16]), Schedule.cosine()
    config = Config(guide_steps=40, guide_rate=3e-3)
    train_guide(network, network, batches(), schedule, config, torch.Generator().manual_seed(0))
    x0, classes = next(batches())
    noise = torch.randn(x0.shape, generator=torch.Generator().manual_seed(5))

    def right(t: int) -> float:
        each = torch.full((len(x0),), t)
        with torch.no_grad():
            found = network(schedule.add_noise(x0, noise, each), each).argmax(dim=1)
        return float((found == classes).float().mean())

    assert right(300) > 0.9 and right(999) < 0.8
    assert not network.training and not any(p.requires_grad for p in network.parameters())


def test_reproduce_measures_both_networks_at_every_scale() -> None:
    lab = pixel_lab(images=6, batch=4)
    lab.settings.seeds = [0, 1]  # of a single seed every value is measured again and again
    torch.manual_seed(0)
    lab.inputs.noisy_classifier = Guide(NoisyClassifier(48, SIZE, [8, 16]).eval(), Schedule.cosine())
    reproduce(lab, Config(steps=2, scales=[1.0, 10.0]))
    names = [(arm.settings["network"], arm.name, arm.settings["scale"]) for arm in lab.arms]
    assert names == [
        (network, name, scale)
        for network in ("unconditional", "conditional")
        for name, scale in (("unguided", 0.0), ("guided-1", 1.0), ("guided-10", 10.0))
    ]
    assert all(
        (arm.calls, arm.samples) == (2, 12) for arm in lab.arms
    )  # the guide is no evaluation of the denoiser
    assert all("class-accuracy[emoji-judge]" in arm.metrics for arm in lab.arms)
    plain, small, large = (arm.images for arm in lab.arms[:3])
    assert plain is not None and small is not None and large is not None
    assert 0 < float((small - plain).abs().mean()) < float((large - plain).abs().mean())
    claims = [(c.metric.split("[")[0], c.arm, c.relation, c.than, c.at["network"]) for c in lab.claims]
    assert claims == [
        ("class-accuracy", "guided-10", ">", "unguided", "unconditional"),
        ("precision", "guided-10", ">", "unguided", "unconditional"),
        ("fid", "guided-10", "<", "unguided", "unconditional"),
        ("recall", "guided-10", "<", "unguided", "unconditional"),
        ("class-accuracy", "guided-1", ">", "unguided", "conditional"),
        ("precision", "guided-1", ">", "unguided", "conditional"),
        ("fid", "guided-1", "<", "unguided", "conditional"),
        ("recall", "guided-10", "<", "unguided", "conditional"),
        ("fid", "guided-1", "<", "guided-10", "conditional"),
    ]


def test_rows_are_the_denoisers_the_guides_and_those_it_is_trained_on() -> None:
    config = Config(steps=20, scales=[1.0, 3.0, 10.0], guide_steps=5, guide_batch=7)
    assert network_rows(config, 96) == 2 * 4 * 20 * 96 + 2 * 3 * 20 * 96 * 2 + 3 * 5 * 7


def test_the_paper_scale_is_rehearsed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With a network that knows no classes, and a guide trained on the data's."""
    monkeypatch.setenv("DENOISED_LANG", "en")
    arguments = ["scale=paper", "--rehearse", "seeds=[0,1]", "--out", str(tmp_path)]
    assert main(["run", "adm", *arguments]) == Exit.OK
    record = read_record(tmp_path / "adm" / "rehearsal.json", paper="adm")
    trained = {arm.name: arm.cost.parameters_trained for arm in record.arms}
    assert trained["unguided"] == 0 < trained["guided-1"]
    assert {claim.metric.partition("[")[0] for claim in record.claims} == {"precision", "fid", "recall"}
