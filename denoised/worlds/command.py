"""`denoised world`: which worlds there are, a picture of each with what is on it, and those of the site."""

from __future__ import annotations

from pathlib import Path

from denoised.command_line import known, note
from denoised.errors import DenoisedError
from denoised.files import write_whole
from denoised.language import Phrase, reader_language, say
from denoised.terminal import pad, width, wrap

WORLDS: dict[str, Phrase] = {
    "emoji": Phrase(
        ko="이모지 장면. 캡션, 상자, 마스크, 에지, 깊이를 정확히 안다.",
        en="Scenes of emoji, with exact captions, boxes, masks, edges and depth.",
    ),
    "clips": Phrase(
        ko="움직이는 이모지, 8프레임. 움직임을 정확히 안다.",
        en="Moving emoji: clips of eight frames, their motion exact.",
    ),
    "toys": Phrase(
        ko="2차원 밀도. 잡음이 섞인 뒤에도 로그 밀도와 스코어를 정확히 안다.",
        en="Two-dimensional densities whose log-density and score are exact, under noise too.",
    ),
    "fashion-mnist": Phrase(
        ko="28×28 흑백 옷 사진. 데비안 패키지 dataset-fashion-mnist나 --folder에서 읽는다.",
        en="28×28 grey pictures of clothes, from Debian's package dataset-fashion-mnist or from --folder.",
    ),
}
# The usual, the least and the greatest number of pixels of a scene, of a frame, of a panel.
SIZES = {"emoji": (64, 16, 512), "clips": (64, 16, 512), "toys": (240, 96, 512)}


def list_worlds() -> None:
    """Print every world with what it is."""
    first = max(map(width, WORLDS))
    for name, described in WORLDS.items():
        lines = wrap(described.to(reader_language()), 98 - first)
        print(
            "\n".join([f"{pad(name, first)}  {lines[0]}", *(" " * (first + 2) + line for line in lines[1:])])
        )
    note(say(ko="\n그려 보기: denoised world emoji", en="\ndraw one: denoised world emoji"))


def draw_world(
    root: Path, name: str, *, seed: int, size: int | None, folder: Path | None, out: Path | None
) -> None:
    """Draw a world into one PNG file; print what is on it and where it is.

    Raises DenoisedError for an unknown world, for options that the world has no use for, where its files are
    missing or broken, and where the picture cannot be written.
    """
    known("WORLD", name, WORLDS)
    if folder is not None and name != "fashion-mnist":
        raise _no_use("--folder", name)
    if size is not None and name not in SIZES:
        raise _no_use("--size", name)
    usual, least, greatest = SIZES.get(name, (0, 0, 0))
    pixels = usual if size is None else size
    if not least <= pixels <= greatest:
        raise DenoisedError(
            say(
                ko=f"{name}의 --size는 {least}에서 {greatest}까지인데 {size}이다",
                en=f"--size is {size}, and {name} takes {least} to {greatest}",
            )
        )
    from denoised.pictures import png  # these import torch, which the list of worlds does without
    from denoised.worlds import preview

    language = reader_language()
    match name:
        case "emoji":
            drawn = preview.preview_emoji(seed, pixels, language)
        case "clips":
            drawn = preview.preview_clips(seed, pixels, language)
        case "toys":
            drawn = preview.preview_toys(seed, pixels, language)
        case _:
            drawn = preview.preview_fashion_mnist(folder, seed, language)
    path = out or root / "outputs" / "worlds" / f"{name}.png"
    write_whole(path, png(drawn.picture))
    for caption in drawn.captions:
        print(caption)
    note(say(ko=f"\n그림: {path}", en=f"\npicture: {path}"))


def publish_world(
    root: Path, name: str | None, *, seed: int, size: int | None, folder: Path | None, out: Path | None
) -> None:
    """Write the pictures of a world's page into the site's assets; say where they are.

    Raises DenoisedError without a name, for an unknown world, for options that publishing leaves no choice in,
    and as `draw_world` for files.
    """
    if name is None:
        raise DenoisedError(
            say(ko="--publish에는 세계의 이름이 필요하다", en="--publish needs the name of a world"),
            help=f"denoised world {next(iter(WORLDS))} --publish",
        )
    known("WORLD", name, WORLDS)
    if folder is not None and name != "fashion-mnist":
        raise _no_use("--folder", name)
    for option, value in (("--size", size), ("--out", out)):
        if value is not None:
            raise DenoisedError(
                say(
                    ko=f"--publish에는 {option}을 쓰지 않는다. 사이트의 그림은 크기와 자리가 정해져 있다",
                    en=f"--publish takes no {option}: the site's pictures have one size and one place",
                )
            )
    from denoised.worlds.publish import publish

    for path in publish(root, name, seed, folder):
        note(say(ko=f"그림: {path}", en=f"picture: {path}"))
    note(say(ko="다음: denoised site build", en="next: denoised site build"))


def _no_use(option: str, name: str) -> DenoisedError:
    return DenoisedError(
        say(ko=f"{name} 세계에는 {option} 옵션이 없다", en=f"the world {name} has no option {option}"),
        help="denoised world --help",
    )
