"""Guided distillation: its targets, how a student is told w, what it learns and what it costs."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise

import pytest
import torch
from torch import Tensor, nn

from denoised.diffusion.denoiser import Denoiser
from denoised.diffusion.guidance import classifier_free
from denoised.diffusion.samplers import ddim
from denoised.diffusion.schedule import timesteps
from denoised.errors import DenoisedError
from denoised.zoo.load import as_network
from runners.fast_sampling.guided_distillation import (
    ACCURACY_MARGIN,
    FID_MARGIN,
    Config,
    guided_output,
    network_rows,
    reproduce,
    train,
    two_steps_in_one,
    w_conditioned,
    with_weight,
)
from tests.runners.pixel_lab import SIZE, pixel_lab, tiny_checkpoint

NULL = 48


def draw(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def asked(n: int = 3) -> tuple[Tensor, Tensor, Tensor]:
    """Pictures, timesteps and classes."""
    return draw(n, 3, SIZE, SIZE), torch.tensor([999, 500, 20] * n)[:n], torch.arange(n) * 7


def test_stage_1_learns_what_classifier_free_guidance_computes() -> None:
    x, t, classes = asked()
    teacher = as_network(tiny_checkpoint().unet)
    w = torch.tensor([0.0, 1.0, 3.5])
    found = guided_output(teacher, NULL, x, t, with_weight(classes, w))
    for row, strength in enumerate(w.tolist()):
        one = slice(row, row + 1)
        guided = classifier_free(teacher, torch.tensor(NULL), 1 + strength)
        torch.testing.assert_close(found[one], guided(x[one], t[one], classes[one]), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("w", [0.0, 2.0])
def test_a_student_begins_as_its_teacher_without_guidance_whatever_w_is(w: float) -> None:
    unet = tiny_checkpoint().unet
    x, t, classes = asked()
    student = as_network(w_conditioned(unet, 4.0))
    torch.testing.assert_close(student(x, t, with_weight(classes, w)), as_network(unet)(x, t, classes))


def test_a_student_tells_w_apart_once_its_new_layer_is_not_zero() -> None:
    unet = tiny_checkpoint().unet
    student = w_conditioned(unet, 4.0)
    nn.init.normal_(student.class_embedding.weight.weight, generator=torch.Generator().manual_seed(0))  # type: ignore[union-attr,arg-type]
    x, t, classes = asked(1)
    with torch.no_grad():
        said = [as_network(student)(x, t, with_weight(classes, w)) for w in (0.0, 0.1, 2.0, 4.0)]
    assert all(float((a - b).abs().max()) > 1e-5 for a, b in pairwise(said))
    assert unet.class_embedding.num_embeddings == NULL + 1  # the teacher kept its own


def test_rows_name_class_and_w() -> None:
    assert with_weight(torch.tensor([3, 5]), 0.5).tolist() == [[3.0, 0.5], [5.0, 0.5]]
    assert with_weight(torch.tensor([3, 5]), torch.tensor([1.0, 2.0])).tolist() == [[3.0, 1.0], [5.0, 2.0]]


def test_stage_1_brings_the_student_closer_to_the_guided_teacher() -> None:
    """On held-out noise and w, at a rate that 30 updates are enough for."""
    lab = pixel_lab()
    with torch.no_grad():  # a random network's classes hardly differ: make them
        lab.checkpoint.unet.class_embedding.weight *= 20
    teacher = lab.call(lab.checkpoint.unet)

    def target(x: Tensor, t: Tensor, k: Tensor, rows: Tensor) -> Tensor:
        return guided_output(teacher, NULL, x, t, rows)

    x, t, classes = asked(6)
    rows = with_weight(classes, torch.tensor([0.5, 1.0, 1.5, 2.0, 3.0, 4.0]))
    student, errors = w_conditioned(lab.checkpoint.unet, 4.0), []
    config = Config(train_batch=16, learning_rate=2e-3)
    for updates in (0, 30):
        train(lab, config, student, list(range(1000)), target, updates, 0)
        wanted, found = target(x, t, t, rows), as_network(student)(x, t, rows)
        errors.append(float((wanted - found).square().mean()))
    assert errors[1] < 0.7 * errors[0]


def test_stage_2_arrives_where_two_steps_of_the_same_w_do() -> None:
    lab = pixel_lab()
    schedule = lab.checkpoint.schedule
    fine, coarse = timesteps(1000, 8), timesteps(1000, 4)

    def teacher(x: Tensor, t: Tensor, rows: Tensor | None) -> Tensor:
        assert rows is not None
        return torch.tanh(x * (1 + rows[:, 1].reshape(-1, 1, 1, 1)) + rows[:, 0].reshape(-1, 1, 1, 1) / 10)

    target, rows = two_steps_in_one(teacher, lab, schedule, fine), with_weight(torch.tensor([1, 4]), 1.5)

    def student(x: Tensor, t: Tensor, rows: Tensor | None) -> Tensor:
        assert rows is not None
        k = torch.tensor([coarse.index(int(each)) for each in t])
        return target(x, t, k, rows)

    x = draw(2, 1, 2, 2).double()
    ours = ddim(Denoiser(student, schedule, "v_prediction"), x, coarse, condition=rows)
    theirs = ddim(Denoiser(teacher, schedule, "v_prediction"), x, fine, condition=rows)
    torch.testing.assert_close(ours, theirs, rtol=1e-6, atol=1e-6)


def test_reproduce_halves_the_evaluations_and_then_the_steps() -> None:
    lab = pixel_lab(images=4)
    config = Config(
        weights=[1.0, 2.0],
        steps=2,
        updates=1,
        train_batch=2,
        halvings=1,
        halving_updates=1,
        learning_rate=0.0,
    )
    reproduce(lab, config)
    assert [(arm.name, arm.settings["steps"], arm.calls, arm.samples) for arm in lab.arms] == [
        (name, steps, steps, steps * 4 * passes)
        for steps in (2, 1)
        for name, passes in (
            ("guided-1", 2), ("guided-2", 2), ("unguided", 1), ("student-1", 1), ("student-2", 1),
        )
    ]  # fmt: skip
    trained = 2 * 2 * (3 + 2)
    assert network_rows(config, 4) == sum(arm.samples for arm in lab.arms) + trained
    by_name = {(arm.name, arm.settings["steps"]): arm for arm in lab.arms}
    assert {"psnr[guided-1]", "psnr[guided-2]"} <= set(by_name["unguided", 2].metrics)
    assert {m for m in by_name["student-2", 2].metrics if m.startswith("psnr")} == {"psnr[guided-2]"}
    assert [
        (c.metric.split("[")[0], c.arm, c.relation, c.than, c.margin) for c in lab.claims if "2" in c.arm
    ] == [
        ("fid", "student-2", "<=", "guided-2", FID_MARGIN),
        ("fid", "student-2", "<", "unguided", 0.0),
        ("psnr", "student-2", ">", "unguided", 0.0),
        ("class-accuracy", "student-2", ">=", "guided-2", ACCURACY_MARGIN),
        ("class-accuracy", "student-2", ">", "unguided", 0.0),
        ("fid", "student-2", "<", "guided-2", 0.0),
    ]
    assert [c.at["steps"] for c in lab.claims if "2" in c.arm] == [2, 2, 2, 2, 2, 1]


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        ({"weights": []}, "weights must be a rising list"),
        ({"weights": [0.0, 1.0]}, "numbers above 0 and up to w_max = 4"),
        ({"weights": [1.0, 5.0]}, "numbers above 0 and up to w_max = 4"),
        ({"weights": [2.0, 1.0]}, "weights must be a rising list"),
        ({"updates": 0}, "must be at least 1"),
        ({"steps": 10, "halvings": 2}, "halvings must be at least 0, and steps = 10 divisible by 2"),
        ({"halvings": -1}, "halvings must be at least 0"),
    ],
)
def test_impossible_settings_are_refused(settings: dict[str, object], says: str) -> None:
    with pytest.raises(ValueError, match=says):
        Config(**settings)  # type: ignore[arg-type]


def test_what_cannot_be_guided_or_halved_is_refused_before_any_work() -> None:
    for classes in (None, 10):
        with pytest.raises(DenoisedError, match="guidance needs a network that knows the data's classes"):
            reproduce(pixel_lab(classes=classes), Config())
    lab = pixel_lab()
    with pytest.raises(DenoisedError, match="steps must be from 1 to 1000"):
        reproduce(lab, Config(steps=1024))
    lab.inputs.checkpoint = replace(lab.checkpoint, parameterisation="epsilon")
    with pytest.raises(DenoisedError, match="a network that predicts ε cannot be halved"):
        reproduce(lab, Config(halvings=1))
    assert not lab.arms
