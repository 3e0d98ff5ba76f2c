"""DDSS: its sampler against DDIM's and DDPM's, its loss against the kernel distance, its gradients against each other."""

import pytest
import torch
from torch import Tensor

from denoised.diffusion.denoiser import Denoiser
from denoised.diffusion.schedule import Schedule, timesteps
from denoised.diffusion.training import Stream
from denoised.errors import DenoisedError
from denoised.metrics.distances import kernel_distance
from runners.fast_sampling.ddss import (
    GGDM,
    Config,
    counted,
    differentiable,
    features_of,
    kernel_loss,
    level,
    network_rows,
    reproduce,
    sample,
    train,
)
from runners.foundations import ddim
from tests.runners.pixel_lab import pixel_lab

SCHEDULE = Schedule.cosine()


def network(x: Tensor, t: Tensor, _: Tensor | None) -> Tensor:
    return torch.tanh(x) * (1 + t.reshape(-1, 1, 1, 1) / 1000)


def noise(*shape: int) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("eta", [0.0, 0.5, 1.0])
def test_before_training_it_is_ddim_with_that_eta(eta: float) -> None:
    grid, x = timesteps(1000, 7, "trailing"), noise(3, 3, 4, 4)
    denoiser = Denoiser(network, SCHEDULE, "v_prediction")
    with torch.no_grad():
        ours = sample(GGDM(SCHEDULE, grid, eta), counted(denoiser, None), x, Stream(1))
    theirs = ddim.sample(Denoiser(network, SCHEDULE, "v_prediction"), x, grid, eta=eta, generator=Stream(1))
    torch.testing.assert_close(ours, theirs, atol=2e-5, rtol=1e-4)
    assert (denoiser.calls, denoiser.samples) == (7, 21)


def test_all_states_so_far_take_part() -> None:
    """With x̂_0 = 0 the result is a plain sum: here state 2 = state 1 + 10 state 0, and state 1 = 2 state 0."""
    ggdm = GGDM(SCHEDULE, [999, 500], 0.0)
    with torch.no_grad():
        ggdm.towards_state.copy_(torch.tensor([[2.0, 77.0], [10.0, 1.0]]))
        drawn = sample(ggdm, lambda x, t: torch.zeros_like(x), torch.ones(1, 1, 2, 2))
    torch.testing.assert_close(drawn, torch.full((1, 1, 2, 2), 12.0))


def test_a_level_is_the_schedules_at_whole_timesteps_and_between_its_neighbours() -> None:
    for t in (0, 1, 500, 998, 999):
        a, s = level(SCHEDULE, torch.tensor(float(t), dtype=torch.float64))
        assert a.square().item() == pytest.approx(SCHEDULE.alpha_bar(t))
        torch.testing.assert_close(a.square() + s.square(), torch.ones((), dtype=torch.float64))
    between, _ = level(SCHEDULE, torch.tensor(500.5))
    assert SCHEDULE.alpha_bar(501) < between.square() < SCHEDULE.alpha_bar(500)


def test_the_loss_is_the_kernel_distance_less_what_is_constant() -> None:
    a, b, real = noise(9, 5), 2 * noise(7, 5) + 1, noise(11, 5).flip(0)
    ours = kernel_loss(a, real) - kernel_loss(b, real)
    theirs = kernel_distance(real, a) - kernel_distance(real, b)
    assert ours.item() == pytest.approx(theirs, rel=1e-4)


def gradients(rematerialise: bool) -> list[Tensor]:
    ggdm = GGDM(SCHEDULE, [999, 650, 300], 0.5)
    predict_x0 = differentiable(network, SCHEDULE, "v_prediction", None, rematerialise)
    sample(ggdm, predict_x0, noise(2, 1, 4, 4), Stream(0)).square().sum().backward()
    return [p.grad for p in ggdm.parameters() if p.grad is not None]


def test_gradients_reach_every_parameter_and_rematerialising_does_not_change_them() -> None:
    kept, again = gradients(False), gradients(True)
    assert len(kept) == 4
    times, towards_x0, fresh, towards_state = kept
    assert bool((times != 0).all() and (towards_x0 != 0).all())
    assert bool((fresh[:-1] != 0).all()) and fresh[-1] == 0  # the last step is without noise
    assert bool((towards_state.tril() == towards_state).all() and (towards_state.tril() != 0).sum() == 6)
    for a, b in zip(kept, again, strict=True):
        torch.testing.assert_close(a, b)


def test_gradients_are_those_of_finite_differences() -> None:
    ggdm = GGDM(SCHEDULE, [800, 300], 0.5).double()
    with torch.no_grad():
        ggdm.times.add_(3e-4)  # the log-SNR has a kink at every whole timestep
    predict_x0 = differentiable(network, SCHEDULE, "v_prediction", None, False)
    x = noise(2, 1, 2, 2).double()
    loss = sample(ggdm, predict_x0, x, Stream(0)).square().sum()
    loss.backward()
    for parameter, index in ((ggdm.times, (0,)), (ggdm.noise, (0,)), (ggdm.towards_state, (1, 0))):
        assert parameter.grad is not None
        values = []
        for change in (1e-6, -2e-6):
            with torch.no_grad():
                parameter[index] += change
                values.append(sample(ggdm, predict_x0, x, Stream(0)).square().sum().item())
        with torch.no_grad():
            parameter[index] += 1e-6
        assert parameter.grad[index].item() == pytest.approx((values[0] - values[1]) / 2e-6, rel=1e-4)


def test_training_brings_the_features_of_gaussian_data_nearer() -> None:
    """The exact network of N(0, 0.3²): two DDIM steps draw it too narrow, the trained sampler less so."""

    def exact(x: Tensor, t: Tensor, _: Tensor | None) -> Tensor:
        a, s = level(SCHEDULE, t[0])
        return a * 0.09 / (a.square() * 0.09 + s.square()) * x

    config = Config(steps=[2], train_steps=60, learning_rate=0.02)
    ggdm, stream = GGDM(SCHEDULE, [999, 499], 0.0), Stream(3)
    real = 0.3 * noise(256, 2)

    def draw() -> tuple[Tensor, None]:
        return stream.randn_like(torch.empty(64, 2, 1, 1)), None

    losses = train(
        ggdm,
        lambda condition: differentiable(exact, SCHEDULE, "sample", condition, False),
        lambda pictures: pictures.flatten(1),
        real,
        draw,
        config,
        stream,
    )
    assert sum(losses[-10:]) < sum(losses[:10])
    spread = []
    for sampler in (GGDM(SCHEDULE, [999, 499], 0.0), ggdm):
        with torch.no_grad():
            drawn = sample(
                sampler,
                differentiable(exact, SCHEDULE, "sample", None, False),
                noise(512, 2, 1, 1),
                Stream(9),
            )
        spread.append(abs(drawn.std().item() - 0.3))
    assert spread[1] < spread[0] / 2


def test_impossible_settings_are_refused() -> None:
    with pytest.raises(ValueError, match=r"steps must be a list of numbers of at least 2, not \[1\]"):
        Config(steps=[1])
    with pytest.raises(ValueError, match="features must be one of emoji-judge, effnet-lite0, pixels"):
        Config(features="vgg")
    with pytest.raises(ValueError, match="eta must lie in 0 … 1, not 2"):
        Config(eta=2)
    with pytest.raises(ValueError, match="train_steps must be at least 1"):
        Config(train_steps=0)
    with pytest.raises(DenoisedError, match="1001"):
        reproduce(pixel_lab(), Config(steps=[1001], features="pixels"))


def test_the_network_that_judges_does_not_train() -> None:
    with pytest.raises(DenoisedError, match="features=effnet-lite0"):
        features_of(pixel_lab(), "effnet-lite0")


def test_the_judges_features_are_its_own_with_a_gradient() -> None:
    lab = pixel_lab()
    pictures = noise(2, 3, 16, 16).clamp(-1, 1).requires_grad_()
    seen = features_of(lab, "emoji-judge")(pictures)
    torch.testing.assert_close(seen.detach(), lab.judge().features(pictures.detach()))
    seen.sum().backward()
    assert pictures.grad is not None and bool((pictures.grad != 0).any())


def test_reproduce_trains_the_sampler_alone_and_counts_sampling_alone() -> None:
    lab = pixel_lab(images=4)
    config = Config(steps=[3], train_steps=1, train_batch=2, real_images=4, features="pixels")
    before = [p.clone() for p in lab.checkpoint.unet.parameters()]
    reproduce(lab, config)
    assert all(torch.equal(a, b) for a, b in zip(before, lab.checkpoint.unet.parameters(), strict=True))
    assert [(arm.name, arm.settings["steps"]) for arm in lab.arms] == [("ggdm", 3), ("ddim", 3), ("ddpm", 3)]
    assert [(arm.calls, arm.samples) for arm in lab.arms] == [(3, 12)] * 3
    assert [arm.parameters_trained for arm in lab.arms] == [18, 0, 0]
    assert [(c.arm, c.relation, c.than, c.at["steps"]) for c in lab.claims] == [
        ("ggdm", "<", baseline, 3) for baseline in ("ddim", "ddpm")
    ]
    assert network_rows(config, 4) == 3 * (1 * 2 * 3) + 3 * 3 * 4
