"""The classifier of noised scenes: what its network promises, what its recipe writes, and what is refused."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from denoised.diffusion.schedule import Schedule
from denoised.errors import DenoisedError, Exit
from denoised.site.zoo import Manifest
from denoised.zoo.manifest import verify
from denoised.zoo.noisy_classifier import NoisyClassifier, load_noisy_classifier
from denoised.zoo.recipes import emoji_noisy_classifier as recipe
from denoised.zoo.recipes.emoji_pixel import SCHEDULER
from denoised.zoo.train import Training, train

TINY: dict[str, Any] = {"batch": 4, "channels": [8, 8, 16], "warmup": 1}
TRAINED = Path(__file__).resolve().parents[2] / "zoo" / recipe.NAME


def silent(*_: object) -> None: ...


@pytest.fixture(scope="module")
def published(tmp_path_factory: pytest.TempPathFactory) -> tuple[Training, Path]:
    """Two steps of training, and the folder made of them."""
    root = tmp_path_factory.mktemp("noisy")
    training = train(recipe, recipe.Config(steps=2, **TINY), root / "state", silent)
    training.measure()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(recipe, "MEASURED", 8)
        recipe.publish(training, root / recipe.NAME, silent)
    return training, root / recipe.NAME


def test_a_picture_is_read_alike_in_any_batch() -> None:
    """No statistics over a batch, whose pictures hold unlike amounts of noise."""
    torch.manual_seed(0)
    network = NoisyClassifier(5, 16, [8, 16]).train()
    x, t = torch.randn(6, 3, 16, 16), torch.tensor([0, 10, 200, 500, 900, 999])
    alone = torch.cat([network(x[i : i + 1], t[i : i + 1]) for i in range(6)])
    torch.testing.assert_close(network(x, t), alone, atol=1e-5, rtol=1e-5)
    assert network(x, t).shape == (6, 5)


def test_the_timestep_and_the_place_of_things_matter() -> None:
    torch.manual_seed(0)
    network = NoisyClassifier(5, 16, [8, 16]).eval()
    x, t = torch.randn(2, 3, 16, 16), torch.tensor([100, 100])
    assert not torch.allclose(network(x, t), network(x, t + 500), atol=1e-4)
    assert not torch.allclose(network(x, t), network(x.flip(-1), t), atol=1e-4)


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ((5, 16, [8, 12]), r"multiples of groups = 8 and the last of heads = 4, not \[8, 12\]"),
        ((5, 18, [8, 8, 16]), "a side of 18 pixels cannot be halved 2 times"),
    ],
)
def test_impossible_networks_are_refused(arguments: tuple[int, int, list[int]], says: str) -> None:
    with pytest.raises(ValueError, match=says):
        NoisyClassifier(*arguments)


def test_the_recipe_resumes_to_the_bit_and_learns(tmp_path: Path) -> None:
    config = recipe.Config(steps=4, **TINY)
    unbroken = train(recipe, config, tmp_path / "a", silent)
    train(recipe, config, tmp_path / "b", silent, until=2)
    resumed = train(recipe, config, tmp_path / "b", silent)
    a, b = unbroken.tensors(), resumed.tensors()
    assert a.keys() == b.keys() and all(torch.equal(a[key], b[key]) for key in a)
    network = recipe.build(recipe.Config(**TINY)).train()
    optimizer = torch.optim.Adam(network.parameters(), 1e-2)
    losses = []
    for _ in range(8):  # the same batch again and again
        optimizer.zero_grad()
        loss = recipe.loss(network, recipe.Config(bf16=False, **TINY), 0)
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < losses[0]


def test_bands_cover_the_timesteps_once() -> None:
    names = [recipe.band_name(band) for band in range(recipe.BANDS)]
    ends = [tuple(int(n) for n in name.removeprefix("t").split("-")) for name in names]
    assert [t for low, high in ends for t in range(low, high + 1)] == list(range(1000))


def test_noise_rises_with_the_timestep_and_hides_the_scene() -> None:
    def pictures(t: int) -> torch.Tensor:
        return recipe.noised(4, 3, "test", torch.full((4,), t), torch.Generator().manual_seed(0))[0]

    clean, noise = pictures(0), torch.randn(4, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    assert float((pictures(999) - noise).abs().max()) < 0.01
    assert float(clean.abs().max()) < 1.2


def test_a_finished_checkpoint_loads_as_it_was_trained(published: tuple[Training, Path]) -> None:
    training, folder = published
    guide = load_noisy_classifier(folder, shipped=True)
    assert guide.classes == 48 and guide.picture_shape == (3, 32, 32)
    assert torch.equal(guide.schedule.beta, Schedule.from_config(SCHEDULER).beta)
    x, t = torch.randn(3, 3, 32, 32), torch.tensor([5, 300, 900])
    with torch.inference_mode():
        ours, theirs = guide.network(x, t), training.average.eval()(x, t)
    torch.testing.assert_close(ours, theirs, atol=5e-3, rtol=0)  # shipped in half precision
    assert not any(p.requires_grad for p in guide.network.parameters())


def test_its_card_says_what_was_measured(published: tuple[Training, Path]) -> None:
    _, folder = published
    facts = verify(folder)
    assert set(facts["files"]) == {"config.json", "model.safetensors", "scheduler_config.json"}
    assert facts["recipe"] == "denoised train emoji-noisy-classifier" and len(facts["classes"]) == 48
    names = [(line["name"], line["split"]) for line in facts["quality"]]
    bands = [f"class.{recipe.band_name(band)}" for band in range(recipe.BANDS)]
    assert names == [(name, split) for split in ("test", "compositions") for name in bands]
    assert [line["floor"] for line in facts["quality"] if "floor" in line] == list(recipe.FLOORS)
    Manifest.model_validate_json((folder / "manifest.json").read_bytes(), strict=True)  # the site's reading
    card = (folder / "README.md").read_text(encoding="utf-8")
    assert all(line["en"] in card and line["ko"] in card for line in facts["quality"])
    curve = json.loads((folder / "quality.json").read_text())
    assert [line["step"] for line in curve["rows"]] == [2]


def test_the_preview_is_pairs_of_rows_within_the_range_of_pictures() -> None:
    torch.manual_seed(0)
    pictures, columns = recipe.preview(recipe.build(recipe.Config(**TINY)).eval(), recipe.Config(**TINY))
    assert pictures.shape == (4 * columns, 3, 32, 32) and float(pictures.abs().max()) <= 1
    gradients = pictures.split(columns)[1::2]
    assert all(float(each.abs().max()) == 1 for row in gradients for each in row)


def test_what_cannot_be_loaded_is_told(published: tuple[Training, Path], tmp_path: Path) -> None:
    with pytest.raises(DenoisedError, match="there is no checkpoint folder") as error:
        load_noisy_classifier(tmp_path / recipe.NAME)
    assert error.value.help == "train it: denoised train emoji-noisy-classifier --publish"
    _, folder = published
    for name in ("config.json", "model.safetensors", "scheduler_config.json"):
        (tmp_path / name).write_bytes((folder / name).read_bytes())
    for wrong, says in (
        ({"_class_name": "UNet2DModel"}, "does not describe a classifier of noised pictures"),
        ({"heads": 5}, "config.json cannot be used: channels must be multiples"),
        ({"depth": 5}, "config.json cannot be used: .*depth"),
        ({"classes": 7}, "model.safetensors cannot be used"),
    ):
        config = json.loads((folder / "config.json").read_text()) | wrong
        (tmp_path / "config.json").write_text(json.dumps(config))
        with pytest.raises(DenoisedError, match=says) as error:
            load_noisy_classifier(tmp_path)
        assert error.value.code == Exit.INTEGRITY
    with pytest.raises(DenoisedError, match="has no manifest"):
        load_noisy_classifier(tmp_path, shipped=True)


@pytest.mark.skipif(not TRAINED.is_dir(), reason=f"not trained yet: denoised train {recipe.NAME} --publish")
def test_the_shipped_one_keeps_its_floors() -> None:
    """On a seed that neither training nor its card used, with a little room for chance."""
    network = load_noisy_classifier(TRAINED, shipped=True).network
    found = recipe.accuracies(network, 256, 123, "test")
    assert all(
        share > floor - 0.03 for share, floor in zip(found[: len(recipe.FLOORS)], recipe.FLOORS, strict=True)
    )
