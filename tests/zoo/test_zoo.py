"""Checkpoints: damage is found before parsing, folders load in plain diffusers, training resumes to the bit."""

from __future__ import annotations

import os
import random
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import safetensors.torch
import torch
from diffusers import DDIMScheduler, UNet2DModel

from denoised.errors import DenoisedError, Exit
from denoised.worlds.cifar10 import load_cifar10
from denoised.zoo.load import WEIGHTS, load_checkpoint
from denoised.zoo.manifest import verify, write_manifest
from denoised.zoo.recipes import emoji_pixel
from denoised.zoo.recipes.emoji_pixel import Config
from denoised.zoo.rehearsal import write_cifar10, write_ddpm_cifar10
from denoised.zoo.train import train
from runners.foundations.ddim import sample

ROOT = Path(__file__).resolve().parents[2]
ZOO = ROOT / "zoo"


@pytest.mark.parametrize("name", sorted(p.name for p in ZOO.iterdir()))
def test_shipped_files_match_their_manifest(name: str) -> None:
    facts = verify(ZOO / name)
    assert facts["license"] == "Apache-2.0"


def test_every_flipped_byte_is_found_and_the_file_set_aside(tmp_path: Path) -> None:
    choose = random.Random(0)
    data = choose.randbytes(5_000)
    for _ in range(200):
        path = tmp_path / "weights.safetensors"
        path.write_bytes(data)
        write_manifest(tmp_path, ["weights.safetensors"], {})
        position = choose.randrange(len(data))
        damaged = bytearray(data)
        damaged[position] ^= 1 << choose.randrange(8)
        path.write_bytes(bytes(damaged) if choose.random() < 0.5 else data[:position])
        with pytest.raises(DenoisedError, match=r"weights\.safetensors is damaged") as caught:
            verify(tmp_path)
        assert caught.value.code == Exit.INTEGRITY
        assert not path.exists() and (tmp_path / "weights.safetensors.damaged").exists()
        with pytest.raises(DenoisedError, match=r"weights\.safetensors is missing"):
            verify(tmp_path)


def test_a_damaged_checkpoint_is_refused_before_it_is_parsed(tmp_path: Path) -> None:
    folder = tmp_path / "emoji-pixel"
    shutil.copytree(ZOO / "emoji-pixel", folder)
    path = folder / "unet" / WEIGHTS
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)
    with pytest.raises(DenoisedError, match="it was not loaded"):
        load_checkpoint(folder)


def test_folders_that_are_not_checkpoints_are_refused(tmp_path: Path) -> None:
    with pytest.raises(DenoisedError, match="there is no checkpoint folder"):
        load_checkpoint(tmp_path / "nothing")
    with pytest.raises(DenoisedError, match=r"config\.json is missing"):
        load_checkpoint(tmp_path)
    (tmp_path / "config.json").write_text('{"_class_name": "AutoencoderKL"}')
    (tmp_path / "scheduler_config.json").write_text("{}")
    with pytest.raises(
        DenoisedError, match=r"a UNet2DModel is needed, but config\.json describes 'AutoencoderKL'"
    ):
        load_checkpoint(tmp_path)


def test_a_shipped_checkpoint_needs_its_manifest(tmp_path: Path) -> None:
    shutil.copytree(ZOO / "emoji-pixel", tmp_path / "model")
    (tmp_path / "model" / "manifest.json").unlink()
    assert load_checkpoint(tmp_path / "model").facts == {}
    with pytest.raises(DenoisedError, match=r"has no manifest\.json, so its files cannot be checked"):
        load_checkpoint(tmp_path / "model", shipped=True)


def test_a_pickle_is_never_opened(tmp_path: Path) -> None:
    """A canary: a folder whose weights are a pickle that would write a file when opened."""
    shutil.copytree(ZOO / "emoji-pixel", tmp_path / "model")
    folder, canary = tmp_path / "model", tmp_path / "canary"
    (folder / "manifest.json").unlink()
    (folder / "unet" / WEIGHTS).unlink()
    payload = f"cos\nsystem\n(S'touch {canary}'\ntR.".encode()
    for name in (WEIGHTS, WEIGHTS.replace(".safetensors", ".bin")):
        (folder / "unet" / name).write_bytes(payload)
    with pytest.raises(DenoisedError, match="cannot be used"):
        load_checkpoint(folder)
    assert not canary.exists()


def test_the_checkpoint_loads_in_plain_diffusers_and_draws_the_same() -> None:
    checkpoint = load_checkpoint(ZOO / "emoji-pixel")
    unet = UNet2DModel.from_pretrained(ZOO / "emoji-pixel", subfolder="unet", low_cpu_mem_usage=False).eval()
    scheduler = DDIMScheduler.from_pretrained(ZOO / "emoji-pixel", subfolder="scheduler")
    scheduler.set_timesteps(5)
    x = torch.randn(2, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    labels = torch.tensor([0, 30])
    grid = scheduler.timesteps.tolist()
    ours = sample(checkpoint.denoiser(), x, grid, condition=labels)
    theirs = x
    with torch.inference_mode():
        for t in scheduler.timesteps:
            output = unet.float()(theirs, t, class_labels=labels).sample
            theirs = scheduler.step(output, t, theirs, use_clipped_model_output=True).prev_sample
    # their alphas are float32, ours float64, and the first step divides by nearly zero
    torch.testing.assert_close(ours, theirs, atol=2e-3, rtol=0)


def test_weights_with_the_old_names_of_attention_layers_load(tmp_path: Path) -> None:
    """google/ddpm-cifar10-32 is from before diffusers renamed them; diffusers converts it the same way."""
    write_ddpm_cifar10(tmp_path / "model")
    names = safetensors.torch.load_file(tmp_path / "model" / WEIGHTS).keys()
    assert "mid_block.attentions.0.query.weight" in names and "mid_block.attentions.0.proj_attn.bias" in names
    theirs = UNet2DModel.from_pretrained(tmp_path / "model", low_cpu_mem_usage=False)
    ours = load_checkpoint(tmp_path / "model").unet
    for (name, a), b in zip(theirs.state_dict().items(), ours.state_dict().values(), strict=True):
        assert torch.equal(a, b), name


def test_the_null_class_is_the_default_condition() -> None:
    checkpoint = load_checkpoint(ZOO / "emoji-pixel")
    assert checkpoint.classes == 48 and checkpoint.picture_shape == (3, 32, 32)
    x = torch.randn(1, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    denoiser = checkpoint.denoiser()
    torch.testing.assert_close(denoiser(x, 500).eps, denoiser(x, 500, torch.tensor([48])).eps)


TINY = Config(steps=6, batch=4, warmup=2)


def test_a_resumed_run_equals_the_unbroken_one_bit_for_bit(tmp_path: Path) -> None:
    def silent(*_: object) -> None: ...

    unbroken = train(emoji_pixel, TINY, tmp_path / "a", silent).tensors()
    train(emoji_pixel, TINY, tmp_path / "b", silent, until=3)
    resumed = train(emoji_pixel, TINY, tmp_path / "b", silent).tensors()
    assert unbroken.keys() == resumed.keys()
    assert all(torch.equal(unbroken[name], resumed[name]) for name in unbroken)


def test_another_configuration_does_not_continue_a_run(tmp_path: Path) -> None:
    train(emoji_pixel, TINY, tmp_path, lambda *_: None, until=1)
    with pytest.raises(
        DenoisedError, match=r"was started with another configuration \(learning_rate=0.001\)"
    ):
        train(
            emoji_pixel,
            Config(steps=6, batch=4, warmup=2, learning_rate=0.5),
            tmp_path,
            lambda *_: None,
        )


def test_sigterm_saves_and_says_try_again(tmp_path: Path) -> None:
    code = (
        "from pathlib import Path\nfrom denoised.errors import DenoisedError\n"
        "from denoised.zoo.train import train\nfrom denoised.zoo.recipes import emoji_pixel\n"
        "import sys\ntry:\n"
        "    config = emoji_pixel.Config(steps=10_000, batch=2)\n"
        f"    folder = Path({str(tmp_path)!r})\n"
        "    train(emoji_pixel, config, folder, lambda p, _: print(p.step, flush=True))\n"
        "except DenoisedError as error:\n    print(error.message)\n    sys.exit(error.code)\n"
    )
    command = [sys.executable, "-c", code]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=ROOT) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "1\n"
        os.kill(process.pid, signal.SIGTERM)
        said = process.stdout.read()
    assert process.returncode == Exit.RETRY
    assert "everything is saved in" in said
    stopped = int(said.split("stopped at step ")[1].split(" ")[0].replace(",", ""))
    resumed = train(emoji_pixel, Config(steps=10_000, batch=2), tmp_path, lambda *_: None, until=stopped)
    assert resumed.step == stopped


def test_cifar10_is_read_from_its_binary_layout(tmp_path: Path) -> None:
    write_cifar10(tmp_path / "cifar", records=3)
    pictures, labels = load_cifar10(tmp_path / "cifar")
    assert pictures.shape == (15, 3, 32, 32) and pictures.dtype == torch.uint8
    raw = (tmp_path / "cifar" / "data_batch_1.bin").read_bytes()
    assert labels[0] == raw[0] and pictures[0, 0, 0, 0] == raw[1] and pictures[0, 2, 31, 31] == raw[3072]
    (tmp_path / "cifar" / "data_batch_3.bin").write_bytes(raw[:-1])
    with pytest.raises(DenoisedError, match="not a whole number of 3,073-byte records"):
        load_cifar10(tmp_path / "cifar")
    (tmp_path / "cifar" / "data_batch_3.bin").unlink()
    with pytest.raises(DenoisedError, match=r"data_batch_3\.bin is missing"):
        load_cifar10(tmp_path / "cifar")
