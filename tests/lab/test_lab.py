"""Arms with metrics of any kind, claims on them, and the record that comes of it; edits and their measures."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest
import torch
from torch import Tensor

from denoised.catalog import load
from denoised.diffusion.continuous import Levels
from denoised.diffusion.denoiser import Denoiser
from denoised.diffusion.schedule import Schedule
from denoised.errors import DenoisedError, Exit
from denoised.lab.data import load_data
from denoised.lab.editing import Edit, Task, measure_edits, parse, scene_pairs, stands_out
from denoised.lab.inputs import Inputs
from denoised.lab.lab import Lab
from denoised.lab.record import read_record, write_record
from denoised.lab.reproduce import Run, run
from denoised.lab.settings import DataSettings, ModelSettings, Settings
from denoised.language import Phrase
from denoised.metrics.edits import outside_rmse, things
from denoised.metrics.facts import Facts
from denoised.worlds.emoji import Scene, change, place, render
from denoised.worlds.toys import two_modes

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(autouse=True)
def _english(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DENOISED_LANG", "en")


@dataclass
class NoConfig:
    """The Config of a runner without arguments."""


def settings(**changed: Any) -> Settings:
    given: dict[str, Any] = {"scale": "smoke", "seeds": [0, 1, 2], "images": 5, "batch": 2} | changed
    data = DataSettings(given.pop("world", "prompts"))
    return Settings(model=ModelSettings("nothing", "zoo/nothing"), data=data, **given)


def make_lab(**changed: Any) -> Lab:
    chosen = settings(**changed)
    return Lab(0, chosen, Inputs(ROOT, chosen), report=lambda what: None, advance=lambda: None)


def run_it(reproduce: Any, **changed: Any) -> Run:
    """A run of the entry of DDIM with another experiment."""
    catalog = load(ROOT / "catalog.yaml")
    runner = SimpleNamespace(__file__=__file__, reproduce=reproduce)
    return run(
        ROOT,
        catalog.paper("ddim"),
        cast(Any, runner),
        settings(**changed),
        NoConfig(),
        report=lambda seed, what: None,
        advance=lambda: None,
    )


def judged(pictures: Tensor) -> Tensor:
    return pictures.mean(dim=(1, 2, 3)) > 0.2


def off(pictures: Tensor) -> Tensor:
    return pictures.square().mean(dim=(1, 2, 3))


judged.facts = Facts("judged", "higher", low=0.0, high=1.0, least=2, version="3")  # type: ignore[attr-defined]
off.facts = Facts("off", "lower", low=0.0)  # type: ignore[attr-defined]


def test_a_run_of_metrics_of_its_own_becomes_a_record(tmp_path: Path) -> None:
    def reproduce(lab: Lab, config: object) -> None:
        for name, shift in (("plain", 0.0), ("a method!", 0.5)):
            with lab.arm(name, edit="swap", tau=0.8) as arm:
                arm.images = lab.noise((3, 8, 8)).clamp(-1, 1) * 0.1 + shift
            arm.show(beside=torch.zeros(5, 3, 8, 8), label=Phrase("윗줄은 전", "above: before"))
            arm.record("success[mean]", judged(arm.images), by=judged, extractor="the mean")
            arm.record("rmse", 1.5 + shift + lab.seed, n=7, by=off)
        with lab.arm("no pictures") as arm:
            arm.record("loss", torch.tensor([1.0, 3.0]), by=off)
        lab.claim("success[mean]", "plain", ">=", "a method!", margin=0.1)
        lab.claim("rmse", "a method!", "<", "plain", at={"edit": "swap"})
        lab.claim("rmse", "a method!", "<=", "plain", margin=0.6)

    made = run_it(reproduce)
    path = write_record(tmp_path, "smoke", made.content, made.pictures)
    record = read_record(path, pictures=True)
    assert [arm.name for arm in record.arms] == ["plain", "a method!", "no pictures"]
    success, rmse = record.arms[1].metrics
    assert (success.value, success.n, success.higher_is_better, success.extractor) == (1, 5, True, "the mean")
    assert (success.implementation.name, success.implementation.version) == (f"{__name__}.judged", "3")
    assert success.bounds == (0.0, 1.0) and rmse.bounds == (0.0, None)
    assert success.interval_over == "seeds" and success.interval == (1.0, 1.0)
    assert (rmse.value, rmse.n, rmse.higher_is_better, rmse.extractor) == (3.0, 7, False, None)
    (loss,) = record.arms[2].metrics
    assert (loss.value, loss.n) == (2.0, 2)
    assert record.arms[2].cost.images_per_second is None
    assert [claim.verdict for claim in record.claims] == ["fails", "fails", "holds"]
    assert [picture.caption.en for picture in record.pictures] == [
        "plain, edit = swap, tau = 0.8: 5 samples of one seed, not selected. above: before",
        "a method!, edit = swap, tau = 0.8: 5 samples of one seed, not selected. above: before",
    ]
    assert [(picture.width, picture.height) for picture in record.pictures] == [(5 * 10 - 2, 2 * 10 - 2)] * 2
    assert record.inputs == ()  # nothing was asked for, so nothing was read


def test_points_are_published_over_their_density() -> None:
    points = two_modes().sample(5, seed=0)
    points[0] = 1e3  # far outside every frame

    def reproduce(lab: Lab, config: object) -> None:
        with lab.arm("points", steps=3) as arm:
            arm.plot(points, two_modes())
        arm.record("rmse", 1.0, n=5, by=off)

    (picture,) = run_it(reproduce).content["pictures"]
    assert picture["caption"] == {
        "en": "points, steps = 3: 5 points of one seed over the density they ought to follow, 1 of them outside",
        "ko": "points, steps = 3: 시드 하나의 점 5개와 그것이 따라야 할 밀도. 그림 밖에 1개",
    }


def test_a_value_that_is_not_finite_stops_the_run() -> None:
    lab = make_lab()
    with lab.arm("plain") as arm:
        arm.images = torch.zeros(5, 3, 4, 4)
    with pytest.raises(DenoisedError, match=r"the metric 'rmse' of arm 'plain' \{\} is nan") as caught:
        arm.record("rmse", torch.tensor([1.0, float("nan")]), by=off)
    assert caught.value.code == Exit.FAILED
    with pytest.raises(ValueError, match="the metric 'rmse' of arm 'plain' needs n"):
        arm.record("rmse", 1.0, by=off)


def test_a_value_that_cannot_be_is_refused() -> None:
    lab = make_lab()
    with lab.arm("plain") as arm:
        arm.images = torch.zeros(5, 3, 4, 4)
    with pytest.raises(ValueError, match=r"is -1 of 7 samples, but off takes 1 or more and lies in 0 … inf"):
        arm.record("rmse", -1.0, n=7, by=off)
    with pytest.raises(
        ValueError, match=r"is 1\.5 of 7 samples, but judged takes 2 or more and lies in 0 … 1"
    ):
        arm.record("share", 1.5, n=7, by=judged)
    with pytest.raises(ValueError, match=r"is 1 of 1 samples, but judged takes 2 or more"):
        arm.record("share", torch.ones(1), by=judged)
    with pytest.raises(ValueError, match=r"test_lab\.settings is no metric: decorate it"):
        arm.record("share", 1.0, n=7, by=settings)


def test_a_run_of_one_seed_says_how_sure_it_is_by_its_samples(tmp_path: Path) -> None:
    def reproduce(lab: Lab, config: object) -> None:
        with lab.arm("plain") as arm:
            arm.images = lab.noise((3, 8, 8)).clamp(-1, 1)
        arm.record("rmse", off(arm.images), by=off)
        arm.record("one-number", 2.0, n=5, by=off)

    outcome = run_it(reproduce, seeds=[4])
    record = read_record(write_record(tmp_path, "smoke", outcome.content, outcome.pictures))
    sampled, plain = record.arms[0].metrics
    assert sampled.interval_over == "samples" and sampled.interval is not None
    assert sampled.interval[0] < sampled.value < sampled.interval[1]
    assert plain.interval_over is None and plain.interval is None


def test_claims_on_what_was_not_measured_are_refused() -> None:
    def reproduce(lab: Lab, config: object) -> None:
        for name in ("a", "b"):
            for tau in (0.4, 0.8):
                with lab.arm(name, tau=tau) as arm:
                    arm.record("rmse", 1.0, n=1, by=off)
        lab.claim(*claimed)

    claimed: tuple[Any, ...] = ("rmse", "a", "<", "b")
    with pytest.raises(ValueError, match=r"exactly one arm 'a' at \{\}, there are 2"):
        run_it(reproduce)

    def other(lab: Lab, config: object) -> None:
        with lab.arm("a") as arm:
            arm.record("rmse", 1.0, n=1, by=off)
        lab.claim("psnr", "a", ">", "a")

    with pytest.raises(ValueError, match=r"the claim needs 'psnr', arm 'a' has \['rmse'\]"):
        run_it(other)


def test_a_counted_denoiser_is_the_arm_s_cost_and_moves_the_display() -> None:
    lab, moved = make_lab(), []
    lab.advance = lambda: moved.append(1)
    denoiser = Denoiser(lambda x, t, condition: x, Schedule.linear(), passes=2)
    counted = lab.count(denoiser)
    with lab.arm("plain") as arm:
        counted(torch.zeros(3, 1, 2, 2), 5)
        counted(torch.zeros(3, 1, 2, 2), 4)
        arm.images = torch.zeros(3, 3, 2, 2)
    assert (arm.calls, arm.samples, len(moved)) == (2, 12, 2)


def test_batches_cover_every_sample_once_and_in_order() -> None:
    lab, parts = make_lab(images=5, batch=2), []

    def draw(part: slice) -> Tensor:
        parts.append((part.start, part.stop))
        return torch.arange(10)[part]

    assert lab.in_batches(draw).tolist() == [0, 1, 2, 3, 4]
    assert parts == [(0, 2), (2, 4), (4, 5)]


def test_noise_of_a_sample_does_not_depend_on_how_many_there_are() -> None:
    few, many = (make_lab(images=n).noise((4, 8, 8)) for n in (2, 5))
    torch.testing.assert_close(few, many[:2])


def test_what_the_world_has_not_is_refused() -> None:
    with pytest.raises(ValueError, match="the judge knows the emoji world, not prompts"):
        make_lab().judge()
    with pytest.raises(ValueError, match="prompts are text alone"):
        load_data("prompts", None, None, 64)
    with pytest.raises(ValueError, match="the runner's SCALES must name a clip at scale smoke"):
        make_lab().clip()


def test_levels_that_the_network_does_not_know_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    lab = make_lab()
    lab.inputs.checkpoint = SimpleNamespace(schedule=Schedule.linear())  # type: ignore[assignment]
    assert lab.levels(low=0.02, high=100.0).first == Levels(Schedule.linear()).first
    for low, high in ((0.001, 100.0), (0.02, 200.0)):
        with pytest.raises(DenoisedError) as caught:
            lab.levels(low=low, high=high)
        assert str(caught.value) == (
            f"low and high must lie in 0.01 … 157, which the network knows, not at {low} and {high}"
        )
    monkeypatch.setenv("DENOISED_LANG", "ko")
    with pytest.raises(
        DenoisedError, match=r"네트워크가 아는 0\.01 … 157 안에 있어야 하는데 0\.001, 2\.0이다"
    ):
        lab.levels(low=0.001, high=2.0)


def test_a_pixel_model_is_no_text_to_image_model() -> None:
    lab = make_lab()
    lab.settings.model = ModelSettings("emoji-pixel", "zoo/emoji-pixel")
    with pytest.raises(DenoisedError, match=r"zoo/emoji-pixel/tokenizer/tokenizer_config\.json is missing"):
        lab.text_to_image()


# --- edits ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "edit"),
    [
        ("swap: a cat -> a dog", Edit("swap", "a cat", "a dog")),
        ("add: a cat -> a red cat | red", Edit("add", "a cat", "a red cat", "red")),
        ("remove: a red cat -> a cat | red", Edit("remove", "a red cat", "a cat", "red")),
    ],
)
def test_edits_are_written_as_sentences(text: str, edit: Edit) -> None:
    assert parse(text) == edit


@pytest.mark.parametrize(
    "text", ["", "a cat -> a dog", "swap: a cat", "swap: a -> b | c", "add: a -> b", "move: a -> b"]
)
def test_what_is_no_edit_is_refused(text: str) -> None:
    with pytest.raises(DenoisedError, match="is not an edit") as caught:
        parse(text)
    assert caught.value.help is not None and caught.value.help.startswith("edits=")


@pytest.mark.parametrize("kind", ["swap", "add", "remove"])
def test_scene_pairs_differ_in_one_thing_and_stand_out(kind: Any) -> None:
    pairs = scene_pairs(kind, 12, seed=3)
    assert len(pairs) == 12 and pairs == scene_pairs(kind, 12, seed=3)
    assert pairs != scene_pairs(kind, 12, seed=4)
    for source, edited in pairs:
        assert stands_out(source) and stands_out(edited)
        different = [name for name in vars(source) if getattr(source, name) != getattr(edited, name)]
        assert different == (["object"] if kind == "swap" else ["accessory"])
        assert (edited if kind == "remove" else source).accessory == "none"
        assert source.texture == "plain" and source.style == "none" and source.count == 1


@pytest.mark.parametrize("kind", ["swap", "add", "remove"])
def test_a_perfect_edit_changes_the_background_by_less_than_half_a_grey_level(kind: Any) -> None:
    pairs = scene_pairs(kind, 24, seed=0)
    source, edited = (render(place([pair[k] for pair in pairs], 0), 64) for k in range(2))
    assert outside_rmse(source, edited, things(source) | things(edited)) < 0.5


def test_edits_are_measured_over_the_same_pixels_for_every_arm() -> None:
    scenes = place([Scene("cat", background="blue"), Scene("fox", background="green")], 1)
    source, exact = render(scenes, 64), render(change(scenes, object="dog"), 64)
    lab = make_lab(images=2)
    arms = {}
    for name, pictures in (("exact", exact), ("darker", exact - 0.05)):
        with lab.arm(name) as arms[name]:
            arms[name].images = pictures
    task = Task([], lambda pictures: torch.tensor([True, False]), judged, "mean", "the mean", exact=True)
    measure_edits(task, source, arms)
    values = {name: {m: each.value for m, each in arm.metrics.items()} for name, arm in arms.items()}
    assert values["exact"]["background-rmse"] < 0.5  # a rim that is almost of the background's colour
    assert values["darker"]["background-rmse"] == pytest.approx(0.05 * 127.5, rel=0.1)
    assert values["exact"]["edit-success[mean]"] == 0.5
    assert values["exact"]["layout-iou"] > 0.6
    assert arms["exact"].beside is not None
