"""diffusers' UNet2DModel by itself: nothing more is imported, and nothing is missing afterwards."""

import subprocess
import sys

import pytest

HEAVY = (
    "torch._dynamo",
    "diffusers.models.transformers.transformer_flux",
    "scipy.stats",
    "transformers.models",
)


def run(code: str) -> str:
    return subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True).stdout


def test_the_heavy_imports_stay_away_until_a_checkpoint_is_loaded_and_used() -> None:
    out = run(
        "import sys, torch\n"
        "from pathlib import Path\n"
        "from denoised.zoo.load import load_checkpoint\n"
        "checkpoint = load_checkpoint(Path('zoo/emoji-pixel'), shipped=True)\n"
        "checkpoint.denoiser()(torch.zeros(1, 3, 32, 32), 10)\n"
        f"print([name for name in {HEAVY} if name in sys.modules])"
    )
    assert out.strip() == "[]"


@pytest.mark.parametrize(
    "first", ["import denoised.zoo.load", "import diffusers.models.unets", "import torch"]
)
def test_the_rest_of_diffusers_and_the_compiler_work_after_it(first: str) -> None:
    out = run(
        f"{first}\n"
        "import denoised.zoo.load as load\n"
        "import diffusers.models.unets.unet_2d\n"
        "from diffusers import StableDiffusionPipeline, UNet2DModel\n"
        "from diffusers.models.transformers import Transformer2DModel\n"
        "from diffusers.models.unets import unet_2d_blocks, UNet2DConditionModel\n"
        "import torch\n"
        "same = [UNet2DModel, diffusers.models.unets.unet_2d.UNet2DModel, diffusers.models.unets.UNet2DModel]\n"
        "assert all(each is load.UNet2DModel for each in same)\n"
        "assert unet_2d_blocks.Transformer2DModel is Transformer2DModel\n"
        "twice = torch.compile(lambda x: 2 * x, backend='eager')\n"
        "print(twice(torch.ones(1)).item())"
    )
    assert out.strip().endswith("2.0")


def test_an_optimizer_steps_and_diffusers_moves_a_network_after_it() -> None:
    out = run(
        "from pathlib import Path\n"
        "import torch\n"
        "from denoised.zoo.load import load_checkpoint\n"
        "unet = load_checkpoint(Path('zoo/emoji-pixel'), shipped=True).unet\n"
        "unet.requires_grad_(True)\n"
        "optimizer = torch.optim.SGD(unet.parameters(), lr=1.0)\n"
        "x, label = torch.zeros(1, 3, 32, 32, dtype=torch.float64), torch.tensor([0])\n"
        "unet.to(torch.float64)(x, 3, class_labels=label).sample.sum().backward()\n"
        "optimizer.step()\n"
        "print(unet.dtype)"
    )
    assert out.strip() == "torch.float64"
