"""The pages of worlds and checkpoints: what falls short or is missing is said, what is odd is refused by name."""

from __future__ import annotations

import json
import random
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from scipy.stats import binomtest

from denoised.errors import DenoisedError, Exit
from denoised.language import speaking
from denoised.numbers import percent, wilson
from denoised.site import generate
from denoised.site.library import gather
from denoised.site.sheets import Layout, Sheet
from denoised.site.text import plain
from denoised.site.words import load_words
from denoised.site.worlds import NAMES, read_vocabulary
from denoised.site.zoo import gather_zoo
from denoised.site.zoo_views import plots_view
from tests.site import exhibits
from tests.site.samples import ROOT, Built, png
from tests.site.test_html import article


def text(out: Path, language: str, path: str) -> str:
    """A generated page without its markup."""
    page = (out / language / path / "index.md").read_text()
    return plain(re.sub(r"<[^>]*>", " ", page).replace(" ,", ","))


# --- quality and its floors ------------------------------------------------------------------------------


def test_a_value_below_its_floor_is_shown_as_such(project: Path, tmp_path: Path) -> None:
    exhibits.write_checkpoint(project)
    out = generate(project, tmp_path / "pages").out
    for language, below, met, count in (
        ("en", "floor 98 %, reached 96.1 %", "meets its floor of 99 %", "Of 4 floors 3 are reached and 1 are not."),
        ("ko", "기준 98 %, 실제 96.1 %", "기준 99 % 충족", "4개 가운데 3개가 기준에 도달했고, 1개는 도달하지 못했다."),
    ):  # fmt: skip
        page = text(out, language, "zoo/example")
        assert below in page and met in page and count in page
        assert {"en": "Penguins slide.", "ko": "펭귄은 미끄러진다."}[language] in page
        assert below in text(out, language, "zoo")


def test_a_floor_for_what_should_be_low_is_a_ceiling(project: Path, tmp_path: Path) -> None:
    rows = [
        exhibits.row(name, 120.0, unit="distance", better="lower", floor=floor)
        for name, floor in (("a", 150.0), ("b", 100.0))
    ]
    exhibits.write_checkpoint(project, facts=exhibits.manifest(quality=rows))
    page = text(generate(project, tmp_path / "pages").out, "en", "zoo/example")
    assert "meets its floor of 150" in page and "floor 100, reached 120" in page


@pytest.mark.parametrize(
    ("share", "floor", "shown"),
    [
        (0.961, None, "96.1 %"),
        (1.0, 0.99, "100 %"),
        (0.0, None, "0 %"),
        (0.9996, None, "99.96 %"),
        (0.0003, None, "0.03 %"),
        (0.9797, 0.98, "97.97 %"),
        (0.97996, 0.98, "97.996 %"),
        (0.98, 0.98, "98 %"),
    ],
)
def test_rounding_never_lifts_a_share_over_its_floor(share: float, floor: float | None, shown: str) -> None:
    assert percent(share, apart_from=floor) == shown


@pytest.mark.parametrize(("right", "n"), [(0, 10), (10, 10), (492, 512), (1, 3), (500, 1000)])
def test_the_interval_of_a_share_is_wilsons(right: int, n: int) -> None:
    expected = binomtest(right, n).proportion_ci(method="wilson")
    assert wilson(right / n, n) == pytest.approx((expected.low, expected.high), abs=1e-6)


# --- what is not there -----------------------------------------------------------------------------------


def test_a_world_without_pictures_says_so_and_names_the_command(built: Built) -> None:
    for language, said in (("en", "have not been published yet"), ("ko", "아직 싣지 않았다")):
        html = (built.site / language / "worlds" / "fashion-mnist" / "index.html").read_text()
        page = article(html)
        assert said in page.text
        assert "denoised world fashion-mnist\n" in page.code
        assert page.tags["img"] == 0


def test_a_description_without_its_picture_counts_as_missing(project: Path, tmp_path: Path) -> None:
    folder = exhibits.write_world(project, "emoji", exhibits.pictures())
    (folder / "emoji.png").unlink()
    assert "have not been published yet" in text(
        generate(project, tmp_path / "pages").out, "en", "worlds/emoji"
    )


def test_a_bare_checkpoint_has_a_page_that_says_what_is_missing(project: Path, tmp_path: Path) -> None:
    folder = project / "zoo" / "bare"
    folder.mkdir(parents=True)
    (folder / "manifest.json").write_text('{"files": {}, "license": "MIT"}')
    page = text(generate(project, tmp_path / "pages").out, "en", "zoo/bare")
    for said in (
        "There is no description yet.",
        "No quality has been measured yet.",
        "There is no picture of samples yet.",
        "There is no training curve.",
        "Its model card has no code that loads it.",
    ):
        assert said in page


def test_files_are_compared_with_the_manifest(project: Path, tmp_path: Path) -> None:
    folder = exhibits.write_checkpoint(project)
    assert gather_zoo(project)[-1].states == {
        "unet/config.json": "right",
        "unet/model.safetensors": "missing",
    }
    (folder / "unet" / "config.json").write_text("[]")
    page = text(generate(project, tmp_path / "pages").out, "en", "zoo/example")
    assert "the file in the folder differs" in page and "not in the folder" in page


def test_prompts_without_their_picture_are_listed_all_the_same(project: Path, tmp_path: Path) -> None:
    (exhibits.write_checkpoint(project) / "prompts.png").unlink()
    page = text(generate(project, tmp_path / "pages").out, "ko", "zoo/example")
    assert "prompts.png가 아직 없다" in page and "a cat to the left of a dog" in page


def test_a_project_without_a_zoo_has_an_empty_list(project: Path, tmp_path: Path) -> None:
    assert [path.name for path in (project / "zoo").iterdir()] == []
    assert "There is no checkpoint yet." in text(generate(project, tmp_path / "pages").out, "en", "zoo")


# --- what is odd -----------------------------------------------------------------------------------------


def refusal(project: Path) -> str:
    with pytest.raises(DenoisedError) as caught, speaking("en"):
        gather(project)
    assert caught.value.code is Exit.FINDINGS
    return caught.value.message


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda m: m.pop("license"), "license: Field required"),
        (lambda m: m.update(quality={"fid": 1.0}), "quality: Input should be a valid array"),
        (lambda m: m["quality"][1].update(value="high"), "quality.1.value: Input should be a valid number"),
        (lambda m: m["quality"][1].pop("ko"), "quality.1.ko: Field required"),
        (lambda m: m["quality"][1].update(chanec=0.1), "quality.1.chanec: Extra inputs are not permitted"),
        (
            lambda m: m["quality"][1].update(value=96.1),
            "quality.1: `value` is 96.1, but a share lies between 0 and 1",
        ),
        (
            lambda m: m["quality"].append(m["quality"][1]),
            "quality: `object` stands twice for the same split and language",
        ),
        (lambda m: m["quality"][1].update(value=float("nan")), "NaN is not a finite number"),
        (
            lambda m: m["files"].update({"../secret": m["files"]["unet/config.json"]}),
            r"files.../secret.[key]: String should match pattern '^\w[\w.-]*(/\w[\w.-]*)*$'",
        ),
        (
            lambda m: m["about"].pop("ko") and m.update(hours=-1.0),
            "about.ko: Field required; hours: Input should be greater than or equal to 0",
        ),
    ],
)
def test_an_odd_manifest_is_refused_by_the_name_of_what_is_odd(
    project: Path, change: Callable[[dict[str, Any]], object], message: str
) -> None:
    facts = exhibits.manifest()
    change(facts)
    exhibits.write_checkpoint(project, facts=facts)
    assert refusal(project) == f"zoo/example/manifest.json: {message}"


@pytest.mark.parametrize(
    ("file", "content", "message"),
    [
        ("manifest.json", '{"license": "MIT", "license": "GPL"}', "`license` stands twice"),
        ("manifest.json", "{", "Expecting property name enclosed in double quotes: line 1 column 2 (char 1)"),
        (
            "losses.json",
            '{"every": 0, "loss": [1.0]}',
            "Curve.every: Input should be greater than or equal to 1",
        ),
        ("quality.json", '{"rows": [{"object": 0.5}]}', "rows.0: it has no `step`"),
        (
            "quality.json",
            '{"rows": [{"step": 2, "object": 0.5}, {"step": 1, "object": 0.5}]}',
            "rows: `step` must rise from row to row",
        ),
        ("prompts.png", "no picture", "it is not a PNG picture"),
        ("samples.png", "no picture", "it is not a PNG picture"),
    ],
)
def test_odd_files_beside_a_manifest_are_refused(
    project: Path, file: str, content: str, message: str
) -> None:
    (exhibits.write_checkpoint(project) / file).write_text(content)
    assert refusal(project).startswith(f"zoo/example/{file}: {message}")


def test_a_verdict_on_an_unknown_attribute_is_refused(project: Path) -> None:
    path = exhibits.write_checkpoint(project) / "prompts.json"
    odd = exhibits.prompts()
    odd["tiles"][2]["read"]["colour"] = True
    path.write_text(json.dumps(odd))
    assert refusal(project).startswith(
        "zoo/example/prompts.json: tiles.2.read.colour.[key]: Input should be 'object', "
    )


def test_a_checkpoint_whose_name_is_no_address_is_refused(project: Path) -> None:
    exhibits.write_checkpoint(project, "Not_a name")
    assert refusal(project) == "zoo/Not_a name: a name has small letters, digits and hyphens only"


@pytest.mark.parametrize(
    ("description", "picture", "message"),
    [
        (
            exhibits.pictures(),
            png(100, 100, 1),
            "emoji.png: it has 100×100 pixels, but its 6 tiles need 134×66",
        ),
        (exhibits.pictures(), b"GIF89a", "emoji.png: it is not a PNG picture"),
        (
            exhibits.pictures(tiles=[]),
            png(8, 8, 1),
            "emoji.json: tiles: Tuple should have at least 1 item after validation, not 0",
        ),
        (exhibits.pictures(sead=1), None, "emoji.json: sead: Extra inputs are not permitted"),
        (
            exhibits.pictures(width=None),
            png(8, 8, 1),
            "emoji.json: `columns`, `width` and `height` come together",
        ),
        (exhibits.pictures(frames=3), None, "emoji.json: 3 `frames` need as many `columns`, not 4"),
        (
            exhibits.pictures(command="rm -rf /"),
            None,
            r"emoji.json: command: String should match pattern '^denoised [^\n]+$'",
        ),
    ],
)
def test_an_odd_picture_of_a_world_is_refused(
    project: Path, description: dict[str, Any], picture: bytes | None, message: str
) -> None:
    exhibits.write_world(project, "emoji", description, picture)
    assert refusal(project) == f"site/assets/worlds/{message}"


# --- tiles -----------------------------------------------------------------------------------------------


def test_a_window_lies_over_its_tile() -> None:
    """Whatever the layout: the picture is moved by as much as the tile is away from its corner."""
    chance = random.Random(0)
    for _ in range(200):
        layout = Layout(
            columns=chance.randint(1, 9), width=chance.randint(8, 99), height=chance.randint(8, 99), gap=chance.randint(0, 4)
        )  # fmt: skip
        index, scale = chance.randrange(40), chance.choice((0.5, 1, 2, 3))
        cut = Sheet(Path("x.png"), layout).cut(index, scale)
        sizes = [float(number) for number in re.findall(r"(-?[\d.]+)px", f"{cut.window};{cut.picture}")]
        row, column = index // layout.columns, index % layout.columns
        assert sizes == pytest.approx(
            [
                layout.width * scale,
                layout.height * scale,
                (layout.columns * (layout.width + layout.gap) - layout.gap) * scale,
                -row * (layout.height + layout.gap) * scale,
                -column * (layout.width + layout.gap) * scale,
            ]
        )


def test_every_tile_has_its_caption_in_both_languages(built: Built) -> None:
    for language in ("en", "ko"):
        page = article((built.site / language / "worlds" / "emoji" / "index.html").read_text())
        for tile in exhibits.pictures()["tiles"]:
            assert tile["en"] in page.text and tile["ko"] in page.text
            assert tile["facts"][0]["value"] in page.text
        assert "The pictures of seed 0" in page.text or language == "ko"


def test_every_prompt_has_its_verdict_under_it(built: Built) -> None:
    page = plain(article((built.site / "en" / "zoo" / "example" / "index.html").read_text()).text)
    for said in (
        "a cat to the left of a dog ✓ object ✗ relation",
        "a cat on a red background ✓ object ✓ background",
        "강아지 왼쪽에 고양이가 있다 ✗ object",
        "English prompts 1 of 2 show all that the sentence says",
        "Korean prompts 1 of 2 show all that the sentence says",
    ):
        assert said in re.sub(r"(?<=\S)([✓✗])", r" \1", page), said


# --- content ---------------------------------------------------------------------------------------------


def test_the_vocabulary_is_the_worlds_own(built: Built) -> None:
    from denoised.worlds.emoji import atlas

    vocabulary = read_vocabulary(ROOT)
    assert [(each.id, each.en, each.ko) for each in vocabulary.objects] == [
        (each.id, each.en, each.ko) for each in atlas.load_atlas().objects
    ]
    assert [each.id for each in vocabulary.held_out] == [each.id for each in atlas.load_atlas().held_out]
    assert [bool(each.keypoints) for each in vocabulary.objects] == [
        each.wearable for each in atlas.load_atlas().objects
    ]
    assert [each.ko for each in vocabulary.words["backgrounds"]] == [ko for _, ko, _ in atlas.BACKGROUNDS]
    assert [each.en for each in vocabulary.words["styles"]] == [en for _, en, _ in atlas.STYLES if en]
    assert [each.ko for each in vocabulary.words["relations"]] == [ko for _, _, ko in atlas.RELATIONS]
    for language in ("en", "ko"):
        page = article((built.site / language / "worlds" / "emoji" / "index.html").read_text())
        for thing in (*vocabulary.objects, *vocabulary.held_out):
            assert f"{thing.en}, {thing.en_plural}" in page.text and thing.ko in page.text
        for words in vocabulary.words.values():
            assert all(word.en in page.text and word.ko in page.text for word in words)


def test_the_projects_own_worlds_and_checkpoints_have_pages(tmp_path: Path) -> None:
    """And what their files say in both languages says the same numbers."""
    pages = generate(ROOT, tmp_path / "pages")
    assert [each.name for each in pages.library.checkpoints] == sorted(
        path.parent.name for path in (ROOT / "zoo").glob("*/manifest.json")
    )
    for checkpoint in pages.library.checkpoints:
        facts = checkpoint.manifest
        said = (facts.about, facts.protocol, facts.samples, facts.limits, *facts.quality)
        texts = [each for each in said if each]
        for each in texts:
            ko, en = (re.findall(r"\d+(?:[.,]\d+)*", getattr(each, language)) for language in ("ko", "en"))
            assert sorted(ko) == sorted(en), f"{checkpoint.name}: {each.en}"


@pytest.mark.parametrize("name", NAMES)
def test_a_worlds_prose_has_the_same_sections_in_both_languages_and_a_fair_length(name: str) -> None:
    texts = [(ROOT / "site" / "worlds" / f"{name}.{language}.md").read_text() for language in ("en", "ko")]
    sections = [re.findall(r"^## .*\{#([\w-]+)\}$", each, re.MULTILINE) for each in texts]
    assert sections[0] == sections[1] and {"what", "truth", "code"} <= set(sections[0])
    words = re.sub(r"```.*?```|\$.*?\$|^\|.*?$", "", texts[0], flags=re.DOTALL | re.MULTILINE).split()
    assert 150 <= len(words) <= 350


def test_the_densities_formulas_are_typeset(built: Built) -> None:
    for language in ("en", "ko"):
        page = article((built.site / language / "worlds" / "toys" / "index.html").read_text())
        assert page.tags["math"] > 20 and "$" not in page.text


def test_the_data_of_a_checkpoint_is_there_for_machines(built: Built) -> None:
    data = json.loads((built.site / "api" / "zoo" / "example.json").read_text())
    assert data["quality"][1]["value"] == 0.961 and data["quality"][1]["floor"] == 0.98
    assert data["history"]["rows"][-1]["step"] == 6000
    assert data["pages"] == {"ko": "ko/zoo/example/", "en": "en/zoo/example/"}


def test_a_long_curve_is_averaged_and_shares_are_drawn_together(project: Path) -> None:
    exhibits.write_checkpoint(project)
    words = load_words(project / "site" / "strings.yaml")
    plots = plots_view(gather_zoo(project)[-1], words, "en")
    assert len(plots) == 4, "two losses, the shares, the distance"
    points = re.findall(r'class="dn-line" points="([^"]*)"', plots[0]["svg"])
    assert len(points) == 1 and len(points[0].split()) == 167, "500 losses, three together"
    assert "the object (≥ 98 %)" not in plots[2]["svg"].split("<desc")[0]
    assert "another (≥ 40 %): 1000 → 25, 3000 → 45, 6000 → 48.05" in plots[2]["svg"].replace("&#x27;", "'")
    assert "the psnr (≥ 30 dB): 1000 → 20.5" in plots[3]["svg"]


def test_a_metric_without_a_unit_is_a_share_only_if_it_can_be_one(project: Path) -> None:
    path = exhibits.write_checkpoint(project) / "quality.json"
    rows = [{"step": step, "fid": 700.0 - step, "right": step / 1000} for step in (100, 300)]
    names = {"fid": {"en": "distance", "ko": "거리"}, "right": {"en": "right", "ko": "맞음"}}
    path.write_text(json.dumps(exhibits.history(rows=rows, metrics=names)))
    words = load_words(project / "site" / "strings.yaml")
    shares, distance = plots_view(gather_zoo(project)[-1], words, "en")[2:]
    assert "right: 100 → 10, 300 → 30" in shares["svg"]
    assert "distance: 100 → 600, 300 → 400" in distance["svg"]


def test_a_text_that_an_unquoted_comma_cut_short_is_found(tmp_path: Path) -> None:
    (tmp_path / "strings.yaml").write_text("a: {ko: 가, en: The truth, drawn}\n")
    with pytest.raises(DenoisedError) as caught:
        load_words(tmp_path / "strings.yaml")
    assert caught.value.message.endswith("`a` has a text in no language: drawn")
