"""ControlNet on tiny random networks of the real classes: its start, its gradients, what training touches."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from diffusers import AutoencoderKL, ControlNetModel
from torch import Tensor, nn

from denoised.cli import main
from denoised.diffusion.samplers import ddim
from denoised.errors import Exit
from denoised.lab.record import read_record
from denoised.metrics.edges import SIZE
from denoised.worlds.emoji import edges, sample_scenes
from denoised.zoo.rehearsal import write_sd15
from denoised.zoo.text_to_image import TextToImage, load_text_to_image
from runners.controllable.controlnet import Config, add_control, conditions, controlled, reproduce, train
from tests.runners.emoji_lab import ROOT, emoji_lab


@pytest.fixture(scope="module")
def t2i(tmp_path_factory: pytest.TempPathFactory) -> TextToImage:
    folder = tmp_path_factory.mktemp("model") / "sd15"
    write_sd15(folder)
    return load_text_to_image(folder)


def inputs(t2i: TextToImage, n: int) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Latents, timesteps, text states and conditions of n pictures."""
    random = torch.Generator().manual_seed(0)
    x = torch.randn(n, *t2i.latent_shape, generator=random)
    t = torch.randint(t2i.schedule.T, (n,), generator=random)
    states = t2i.encode([f"a cat on a red background {i}" for i in range(n)])
    return x, t, states, conditions(sample_scenes(n, 0, "test", "full"), t2i.picture_size)


def zero_convolutions(control: ControlNetModel) -> list[nn.Module]:
    return [*control.controlnet_down_blocks, control.controlnet_mid_block]


def test_at_the_start_it_is_the_base_model_to_the_bit(t2i: TextToImage) -> None:
    """Eq. 3: y_c = y."""
    control = add_control(t2i, seed=0)
    x, t, states, hints = inputs(t2i, 3)
    with torch.no_grad():
        assert torch.equal(controlled(t2i.unet, control, hints)(x, t, states), t2i.network(x, t, states))
    pictures = [
        ddim(t2i.denoiser(3.0, network=network), x, [900, 400], condition=states)
        for network in (controlled(t2i.unet, control, hints), None)
    ]
    assert torch.equal(*pictures)


def test_the_copy_is_the_encoder_and_the_zero_convolutions_are_zero(t2i: TextToImage) -> None:
    control = add_control(t2i, seed=0)
    for convolution in zero_convolutions(control):
        assert all(not parameter.any() for parameter in convolution.parameters())
    locked = t2i.unet.state_dict()
    copied = [n for n in control.state_dict() if n in locked]
    assert copied and all(torch.equal(control.state_dict()[n], locked[n]) for n in copied)
    assert all(parameter.requires_grad for parameter in control.parameters())
    assert not any(n.startswith("up_blocks") for n in control.state_dict())


def test_the_first_gradient_reaches_the_zero_convolutions_alone(t2i: TextToImage) -> None:
    """What Z multiplies is not 0, so Z learns at once; the copy behind it has to wait for that."""
    control = add_control(t2i, seed=0)
    x, t, states, hints = inputs(t2i, 2)
    controlled(t2i.unet, control, hints)(x, t, states).square().mean().backward()
    moved = {name for name, p in control.named_parameters() if p.grad is not None and p.grad.any()}
    assert moved and all(name.startswith("controlnet_") for name in moved)
    assert not any(name.startswith("controlnet_cond_embedding") for name in moved)
    assert "controlnet_mid_block.weight" in moved


def test_guidance_sees_every_condition_twice(t2i: TextToImage) -> None:
    control = add_control(t2i, seed=0)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        for convolution in (*zero_convolutions(control), control.controlnet_cond_embedding.conv_out):
            assert isinstance(convolution, nn.Conv2d)
            nn.init.normal_(convolution.weight)
    x, t, states, hints = inputs(t2i, 2)
    network = controlled(t2i.unet, control, hints)
    with torch.no_grad():
        both = network(torch.cat([x, x]), torch.cat([t, t]), torch.cat([states.flip(0), states]))
        torch.testing.assert_close(both[:2], network(x, t, states.flip(0)), atol=1e-5, rtol=1e-4)
        torch.testing.assert_close(both[2:], network(x, t, states), atol=1e-5, rtol=1e-4)
        other = controlled(t2i.unet, control, hints.flip(0))(x, t, states)
    assert not torch.allclose(other, both[2:], atol=1e-3)


def test_training_moves_the_control_and_nothing_else(t2i: TextToImage) -> None:
    before = {name: p.clone() for name, p in t2i.unet.named_parameters()}
    scenes = sample_scenes(4, 0, "train", "full")
    latents = torch.randn(4, *t2i.latent_shape, generator=torch.Generator().manual_seed(0))
    config = Config(train_batch=2, drop_prompt=1.0, bf16=False)
    controls = []
    for _ in range(2):
        control = add_control(t2i, seed=1)
        train(
            t2i,
            control,
            scenes,
            latents,
            2,
            config,
            torch.Generator().manual_seed(0),
            lambda network: network,
        )
        controls.append(control)
    assert all(torch.equal(p, before[name]) for name, p in t2i.unet.named_parameters())
    assert all(p.grad is None for p in t2i.unet.parameters())
    start = add_control(t2i, seed=1).state_dict()
    changed = [
        name for name, value in controls[0].state_dict().items() if not torch.equal(value, start[name])
    ]
    assert "controlnet_mid_block.weight" in changed and any(n.startswith("down_blocks") for n in changed)
    first, second = (control.state_dict() for control in controls)
    assert all(torch.equal(first[name], second[name]) for name in first)  # the seed decides everything


@pytest.mark.parametrize("levels", [3, 4])
def test_conditions_arrive_in_the_size_of_the_latents(t2i: TextToImage, levels: int) -> None:
    vae = AutoencoderKL(
        block_out_channels=(8,) * levels,
        down_block_types=("DownEncoderBlock2D",) * levels,
        up_block_types=("UpDecoderBlock2D",) * levels,
        norm_num_groups=4,
    )
    model = replace(t2i, vae=vae)
    control = add_control(model, seed=0)
    hints = conditions(sample_scenes(2, 0), model.picture_size)
    assert model.picture_size == 16 * 2 ** (levels - 1)
    assert control.controlnet_cond_embedding(hints).shape == (2, 32, 16, 16)


def test_an_autoencoder_of_another_factor_is_refused(t2i: TextToImage) -> None:
    vae = AutoencoderKL(
        block_out_channels=(4,) * 5,
        down_block_types=("DownEncoderBlock2D",) * 5,
        up_block_types=("UpDecoderBlock2D",) * 5,
        norm_num_groups=4,
    )
    with pytest.raises(ValueError, match="the autoencoder scales by 16, and conditions by at most 8"):
        add_control(replace(t2i, vae=vae), seed=0)


def test_a_condition_is_the_same_drawing_at_any_size() -> None:
    scenes = sample_scenes(3, 0, "test", "full")
    assert torch.equal(conditions(scenes, SIZE), edges(scenes, SIZE))
    large = conditions(scenes, 2 * SIZE)
    assert torch.equal(large[:, :, ::2, ::2], edges(scenes, SIZE)) and torch.equal(
        large[:, :, 1::2], large[:, :, ::2]
    )


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        ({"train_steps": []}, r"train_steps must be a rising list of numbers, not \[\]"),
        ({"train_steps": [300, 100]}, r"train_steps must be a rising list of numbers, not \[300, 100\]"),
        ({"train_steps": [100, 100]}, r"train_steps must be a rising list of numbers, not \[100, 100\]"),
        ({"train_batch": 0}, "train_batch, train_scenes and steps must be at least 1"),
        ({"drop_prompt": 1.5}, "drop_prompt must be from 0 to 1, not 1.5"),
    ],
)
def test_impossible_settings_are_refused(settings: dict[str, object], says: str) -> None:
    with pytest.raises(ValueError, match=says):
        Config(**settings)  # type: ignore[arg-type]


def test_measures_in_the_emoji_world_are_exact(t2i: TextToImage, tmp_path: Path) -> None:
    lab = emoji_lab(tmp_path, t2i, images=3, batch=2)
    config = Config(train_steps=[0, 2], train_batch=2, train_scenes=4, bf16=False, steps=2)
    reproduce(lab, config)
    arms = {arm.name: arm for arm in lab.arms}
    assert list(arms) == ["no-control", "control-0", "control", "real-pictures"]
    assert all(set(arm.metrics) == {"edge-agreement", "text-accuracy[emoji-judge]"} for arm in lab.arms)
    images = {name: arm.images for name, arm in arms.items()}
    assert (
        images["no-control"] is not None and images["control-0"] is not None and images["control"] is not None
    )
    assert torch.equal(images["no-control"], images["control-0"])  # Eq. 3, in whole pictures
    assert not torch.equal(images["no-control"], images["control"])
    assert arms["control"].beside is not None and arms["control"].beside.unique().tolist() == [-1, 1]
    assert arms["real-pictures"].metrics["edge-agreement"].value > 0.75
    assert arms["real-pictures"].calls == 0 and arms["control"].calls == arms["no-control"].calls == 4
    assert {(claim.arm, claim.relation, claim.than) for claim in lab.claims} == {
        ("control", ">", "no-control"),
        ("control", ">=", "no-control"),
    }


def test_the_paper_scale_is_rehearsed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    assert main(["run", "controlnet", "scale=paper", "--rehearse", "--out", str(tmp_path)]) == Exit.OK
    record = read_record(tmp_path / "controlnet" / "rehearsal.json", paper="controlnet")
    assert [arm.name for arm in record.arms] == ["no-control", "control"]
    assert record.arms[1].cost.parameters_trained > record.arms[0].cost.parameters_trained == 0
    assert [(claim.metric, claim.relation) for claim in record.claims] == [
        ("edge-agreement", ">"),
        ("clip-score[clip-vit-b32]", ">="),
    ]


@pytest.mark.text_to_image
def test_a_smoke_run_uses_the_shipped_checkpoints(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    assert main(["run", "controlnet", "scale=smoke", "seeds=[0]", "--out", str(tmp_path)]) == Exit.OK
    record = read_record(tmp_path / "controlnet" / "smoke.json", pictures=True)
    assert {file.path.split("/")[1] for file in record.inputs} >= {"emoji-t2i", "emoji-judge"}
    assert [claim.relation for claim in record.claims] == [">", ">="]
