"""The pictures of the worlds' pages: the site reads them, they show what they say, and they are not stale."""

from __future__ import annotations

import gzip
import json
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from denoised import project
from denoised.cli import main
from denoised.errors import Exit
from denoised.site.worlds import NAMES, Drawn, Tile, drawn_view, gather_worlds
from denoised.worlds.clips import MOTIONS
from denoised.worlds.emoji import ACCESSORIES, RELATIONS, SIZES, STYLES, TEXTURES
from denoised.worlds.emoji.atlas import COUNTS
from denoised.worlds.fashion_mnist import CLASSES
from denoised.worlds.publish import SLOT_COLOURS, TRUTH, emoji_sheet, publish
from denoised.worlds.toys import TOYS
from tests.worlds.test_fashion_mnist import COUNT, IMAGES, LABELS, idx, numbers, pixels

ROOT = Path(__file__).resolve().parents[2]
ASSETS = Path("site") / "assets" / "worlds"
MOST = 150_000  # bytes of a committed picture

Pixels = NDArray[np.uint8]


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A project with every published picture in it, drawn now; Fashion-MNIST from a file of 20 pictures."""
    root = tmp_path_factory.mktemp("project")
    files = tmp_path_factory.mktemp("fashion-mnist")
    (files / IMAGES).write_bytes(gzip.compress(idx(pixels(), COUNT, 28, 28)))
    (files / LABELS).write_bytes(gzip.compress(idx(numbers(), COUNT)))
    for name in NAMES:
        publish(root, name, 0, files)
    return root


@pytest.fixture(scope="module")
def sheets(written: Path) -> dict[str, Drawn]:
    """What the site reads of them."""
    worlds = gather_worlds(written)
    found = {world.name: world.drawn for world in worlds}
    found |= {f"{world.name}-truth": world.truth for world in worlds if world.truth}
    return {name: drawn for name, drawn in found.items() if drawn is not None}


def tile(drawn: Drawn, number: int) -> Pixels:
    """The colours of one tile, (height, width, 3)."""
    layout = drawn.pictures.layout
    assert layout is not None
    row, column = divmod(number, layout.columns)
    top, left = row * (layout.height + layout.gap), column * (layout.width + layout.gap)
    pixels = decoded(drawn.path)[top : top + layout.height, left : left + layout.width]
    assert (pixels[..., 3] == 255).all()
    return pixels[..., :3]


def decoded(path: Path) -> Pixels:
    with Image.open(path) as picture:
        return np.asarray(picture.convert("RGBA"))


# --- what is written -------------------------------------------------------------------------------------


def test_the_site_reads_every_world(sheets: dict[str, Drawn]) -> None:
    assert set(sheets) == {*NAMES, "emoji-truth"}
    for name, drawn in sheets.items():
        assert drawn.pictures.command == f"denoised world {name.removesuffix('-truth')} --publish"
        assert len(drawn_view(drawn, "ko")["captions"]) == len(drawn.pictures.tiles)
        for each in drawn.pictures.tiles:
            assert each.en.isascii() and not each.ko.isascii()


@pytest.mark.parametrize("name", ["emoji", "emoji-truth", "clips", "toys"])
def test_the_committed_pictures_are_what_the_command_draws(name: str, written: Path) -> None:
    committed, drawn = ROOT / ASSETS / f"{name}.png", written / ASSETS / f"{name}.png"
    assert json.loads(committed.with_suffix(".json").read_text(encoding="utf-8")) == json.loads(
        drawn.with_suffix(".json").read_text(encoding="utf-8")
    )
    before, now = decoded(committed).astype(int), decoded(drawn).astype(int)
    assert before.shape == now.shape and abs(before - now).max() <= 1  # processors round differently
    assert committed.stat().st_size <= MOST


@pytest.mark.parametrize("seed", [0, 1])
def test_every_kind_of_scene_is_shown_whatever_the_seed(seed: int) -> None:
    sheet = emoji_sheet(seed, "denoised world emoji --publish")
    captions = [each.en for each in sheet.pictures.tiles]
    terms = (*TEXTURES, *SIZES, *ACCESSORIES, *STYLES, *RELATIONS)
    words = [en for _, en, _ in terms if en] + [en for en, _ in COUNTS if en]
    for word in words:
        assert any(f" {word} " in f" {caption} " for caption in captions), word
    assert len(set(captions)) == len(captions)


def test_boxes_are_where_the_things_are(sheets: dict[str, Drawn]) -> None:
    """On a plain background nothing but the things, and what they wear, differs from it."""
    drawn, checked = sheets["emoji"], 0
    for number, each in enumerate(drawn.pictures.tiles):
        plain = not any(word in each.en for word in ("striped", "dotted", "checked", "wearing", " of a"))
        boxes = [fact.value for fact in each.facts if fact.name == "box"]
        if not (plain and boxes):
            continue
        picture = tile(drawn, number)
        things = (picture != picture[0, 0]).any(axis=2)
        for box in boxes:
            left, top, right, bottom = map(int, box.split())
            assert things[top:bottom, left:right].any()
            things[top:bottom, left:right] = False
        assert not things.any(), each.en
        checked += 1
    assert checked >= 5


# --- ground truth ----------------------------------------------------------------------------------------


def test_a_row_of_ground_truth_has_a_name_for_each_tile(sheets: dict[str, Drawn]) -> None:
    pictures = sheets["emoji-truth"].pictures
    columns = pictures.columns or 0
    assert len(pictures.tiles) == columns * len(TRUTH)
    for row, (_, changes) in enumerate(TRUTH):
        names = [each.en for each in pictures.tiles[row * columns : (row + 1) * columns]]
        assert sum(name.startswith("counterfactual: ") for name in names) == len(changes)
        assert len(set(names)) == columns


def test_a_counterfactual_changes_nothing_else(sheets: dict[str, Drawn]) -> None:
    """On another background every pixel that a thing covers is as it was, and every uncovered one is not."""
    drawn = sheets["emoji-truth"]
    columns, found = drawn.pictures.columns or 0, 0
    for row, (scene, changes) in enumerate(TRUTH):
        picture, masks = tile(drawn, row * columns), tile(drawn, row * columns + 1)
        whole = (masks[:, :, None] == np.array(SLOT_COLOURS)).all(axis=3).any(axis=2)
        for number, change in enumerate(changes, start=(row + 1) * columns - len(changes)):
            if scene.accessory == "none" and set(change) == {"background"}:
                apart = abs(tile(drawn, number).astype(int) - picture).max(axis=2)
                assert whole.any() and apart[whole].max() <= 1  # of a cover just below whole, one level shows
                assert apart[~masks.any(axis=2)].min() > 1
                found += 1
    assert found


def test_only_what_is_worn_has_an_accessory_mask(sheets: dict[str, Drawn]) -> None:
    drawn = sheets["emoji-truth"]
    for row, (scene, _) in enumerate(TRUTH):
        number = row * (drawn.pictures.columns or 0) + 2
        worn = scene.accessory != "none"
        assert tile(drawn, number).any() == worn
        assert drawn.pictures.tiles[number].en.endswith("nothing is") != worn


# --- the other worlds ------------------------------------------------------------------------------------


def test_a_clip_of_each_motion_moves_as_its_boxes_say(sheets: dict[str, Drawn]) -> None:
    tiles = sheets["clips"].pictures.tiles
    assert [facts(each)["motion"] for each in tiles] == [motion.id for motion in MOTIONS]
    for each, motion in zip(tiles, MOTIONS, strict=True):
        first, last = (list(map(float, facts(each)[name].split())) for name in ("box[0]", "box[7]"))
        assert min(first + last) >= 0 and max(first + last) <= 1
        if motion.direction != (0, 0):
            moved = np.sign(np.round(np.subtract(last, first)[:2], 1)).tolist()
            assert moved == list(motion.direction), motion.id


def test_every_density_has_its_name(sheets: dict[str, Drawn]) -> None:
    assert sheets["toys"].sheet is None and not sheets["toys"].pictures.pixelated
    assert [facts(each)["toy"] for each in sheets["toys"].pictures.tiles] == list(TOYS)


def test_clothes_are_dark_on_white_a_class_a_row(sheets: dict[str, Drawn]) -> None:
    drawn = sheets["fashion-mnist"]
    assert [each.en for each in drawn.pictures.tiles] == [each.en for each in CLASSES]
    assert drawn.pictures.frames == COUNT // len(CLASSES)
    stored = 255 - np.frombuffer(pixels(), np.uint8).reshape(COUNT, 28, 28)
    for label in range(len(CLASSES)):
        shown = {tile(drawn, drawn.pictures.frames * label + i)[..., 0].tobytes() for i in range(2)}
        assert shown == {stored[i].tobytes() for i in range(COUNT) if numbers()[i] == label}


def facts(each: Tile) -> dict[str, str]:
    return {fact.name: fact.value for fact in each.facts}


# --- the command -----------------------------------------------------------------------------------------


def test_the_command_writes_into_the_project(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "catalog.yaml").touch()
    (tmp_path / "data").symlink_to(ROOT / "data")
    monkeypatch.setenv("DENOISED_ROOT", str(tmp_path))
    assert main(["world", "clips", "--publish", "--seed", "3", "--lang", "en"]) == Exit.OK
    path = tmp_path / ASSETS / "clips.png"
    captured = capsys.readouterr()
    assert (captured.out, captured.err) == ("", f"picture: {path}\nnext: denoised site build\n")
    (drawn,) = [world.drawn for world in gather_worlds(tmp_path) if world.drawn]
    assert (drawn.path, drawn.pictures.seed) == (path, 3)
    assert drawn.pictures.command == "denoised world clips --publish --seed 3"


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ([], "error: --publish needs the name of a world\nhelp: denoised world emoji --publish\n"),
        (["emojis"], "error: WORLD: there is no `emojis`\nhelp: did you mean `emoji`?\n"),
        (
            ["emoji", "--size", "32"],
            "error: --publish takes no --size: the site's pictures have one size and one place\n",
        ),
        (
            ["toys", "--out", "toys.png", "--lang", "ko"],
            "오류: --publish에는 --out을 쓰지 않는다. 사이트의 그림은 크기와 자리가 정해져 있다\n",
        ),
        (["clips", "--folder", "."], "error: the world clips has no option --folder\n"),
        (["fashion-mnist", "--folder", "/nowhere"], "t10k-images-idx3-ubyte.gz is missing\n"),
    ],
)
def test_mistakes_are_told_and_nothing_is_written(
    arguments: list[str],
    says: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    (tmp_path / "catalog.yaml").touch()
    monkeypatch.setenv("DENOISED_ROOT", str(tmp_path))
    monkeypatch.setenv("DENOISED_LANG", "en")
    assert main(["world", *arguments, "--publish"]) == Exit.USAGE
    assert says in capsys.readouterr().err
    assert not (tmp_path / "site").exists()


def test_a_copy_without_the_repository_publishes_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.delenv("DENOISED_ROOT", raising=False)
    monkeypatch.setattr(project, "__file__", str(tmp_path / "site-packages" / "denoised" / "project.py"))
    monkeypatch.chdir(tmp_path)
    assert main(["world", "emoji", "--publish", "--lang", "en"]) == Exit.USAGE
    assert f"error: not inside a Denoised project: {tmp_path}\n" in capsys.readouterr().err
    assert not list(tmp_path.iterdir())
