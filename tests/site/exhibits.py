"""Worlds' pictures and a checkpoint, made up for the tests, in the files that a project keeps them in."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

from tests.site.samples import png

CARD = """# example

```python
from diffusers import UNet2DModel

unet = UNet2DModel.from_pretrained("zoo/example", subfolder="unet")
```
"""


def sheet(tiles: int, columns: int, side: int, gap: int = 2) -> bytes:
    """A grey PNG of the size that so many tiles need."""
    rows = -(-tiles // columns)
    return png(columns * (side + gap) - gap, rows * (side + gap) - gap, 90)


def pictures(**changes: Any) -> dict[str, Any]:
    """The description of six scenes in rows of four."""
    tiles = [
        {"ko": f"고양이 {n}", "en": f"cat {n}", "facts": [{"name": "box", "value": f"0.{n}"}]}
        for n in range(10, 16)
    ]
    layout = {"columns": 4, "width": 32, "height": 32}
    return {"seed": 0, "command": "denoised world emoji --publish", **layout, "tiles": tiles} | changes


def clips(**changes: Any) -> dict[str, Any]:
    """The description of two clips of eight frames."""
    tiles = [{"ko": f"고양이 {n}", "en": f"cat {n}"} for n in (20, 21)]
    layout = {"columns": 8, "frames": 8, "width": 32, "height": 32, "seconds": 1.0}
    return {"seed": 0, "command": "denoised world clips --publish", **layout, "tiles": tiles} | changes


def whole(**changes: Any) -> dict[str, Any]:
    """The description of a picture without tiles."""
    tiles = [{"ko": "두 반달", "en": "two moons"}]
    return {
        "seed": 0,
        "command": "denoised world toys --publish",
        "pixelated": False,
        "tiles": tiles,
    } | changes


def write_world(root: Path, name: str, description: dict[str, Any], picture: bytes | None = None) -> Path:
    """Publish a world's picture, of the size that the description asks for where none is given."""
    folder = root / "site" / "assets" / "worlds"
    folder.mkdir(exist_ok=True)
    (folder / f"{name}.json").write_text(json.dumps(description, ensure_ascii=False))
    if picture is None:
        tiles = len(description["tiles"]) * description.get("frames", 1)
        picture = sheet(tiles, description.get("columns", 1), description.get("width", 300))
    (folder / f"{name}.png").write_bytes(picture)
    return folder


def row(name: str, value: float, **more: Any) -> dict[str, Any]:
    """A row of measured quality."""
    return {"name": name, "en": f"the {name}", "ko": f"잰 {name}", "value": value} | more


def manifest(**changes: Any) -> dict[str, Any]:
    """A manifest that uses all there is. Its second row is below its floor, and one of its files is not there."""
    facts = {
        "about": {"en": "An example of 64 pixels.", "ko": "64 픽셀의 보기."},
        "protocol": {"en": "Guidance 30, seed 70.", "ko": "가이던스 30, 시드 70."},
        "samples": {"en": "One of each", "ko": "하나씩"},
        "limits": {"en": "Penguins slide.", "ko": "펭귄은 미끄러진다."},
        "parameters": {"unet": 9_000_000, "vae": 1_500_000},
        "recipe": "denoised train example",
        "hours": 1.25,
        "hardware": "2 CPU threads",
        "steps": 6000,
        "pictures_seen": 384_000,
        "config": {"batch": 64},
        "license": "Apache-2.0",
        "classes": ["dog"],  # which no page shows
        "quality": [
            row("background", 1.0, n=512, floor=0.99, chance=0.128, split="test", language="en"),
            row("object", 0.961, n=512, floor=0.98, split="test", language="ko", headline=True),
            row("object", 0.93, n=256, floor=0.9, split="compositions"),
            row("psnr", 31.2, unit="dB", floor=30.0, n=1024),
            row("fid[x@64]", 212.4, unit="distance", better="lower", real=97.5, headline=True),
        ],
        "files": {
            "unet/config.json": {"bytes": 2, "sha256": hashlib.sha256(b"{}").hexdigest()},
            "unet/model.safetensors": {"bytes": 5_000_000, "sha256": "ab" * 32},
        },
    }
    return facts | changes


def prompts(**changes: Any) -> dict[str, Any]:
    """Four prompts, two in each language, of which one of each is not drawn as asked."""
    tiles = [
        {
            "prompt": "a cat to the left of a dog",
            "language": "en",
            "read": {"object": True, "relation": False},
        },
        {
            "prompt": "a cat on a red background",
            "language": "en",
            "read": {"object": True, "background": True},
        },
        {
            "prompt": "빨간 배경에 고양이가 있다",
            "language": "ko",
            "read": {"object": True, "background": True},
        },
        {"prompt": "강아지 왼쪽에 고양이가 있다", "language": "ko", "read": {"object": False}},
    ]
    how = {"guidance": 3, "steps": 20, "seed": 70, "columns": 2, "width": 32, "height": 32}
    return how | {"command": "denoised train example --publish", "tiles": tiles} | changes


def history(**changes: Any) -> dict[str, Any]:
    """Quality at three moments of training: two shares, one of which the manifest names, and a distance."""
    rows = [
        {"step": step, "pictures": 64 * step, "hours": step / 5000, "object": share, "other": share / 2, "psnr": 20 + share}
        for step, share in ((1000, 0.5), (3000, 0.9), (6000, 0.961))
    ]  # fmt: skip
    metrics = {"other": {"en": "another", "ko": "다른 것", "unit": "share", "floor": 0.4}}
    return {"rows": rows, "metrics": metrics} | changes


def write_checkpoint(root: Path, name: str = "example", facts: dict[str, Any] | None = None) -> Path:
    """A checkpoint's folder with everything that a page can show."""
    folder = root / "zoo" / name
    (folder / "unet").mkdir(parents=True)
    (folder / "unet" / "config.json").write_text("{}")
    losses = [
        {"en": "autoencoder", "ko": "오토인코더", "every": 10, "loss": [1.0 / (k + 1) for k in range(500)]},
        {"en": "denoiser", "ko": "디노이저", "every": 100, "loss": [0.5, 0.4, 0.3]},
    ]
    for file, content in (
        ("manifest", manifest() if facts is None else facts),
        ("losses", losses),
        ("quality", history()),
        ("prompts", prompts()),
    ):
        (folder / f"{file}.json").write_text(json.dumps(content, ensure_ascii=False))
    (folder / "prompts.png").write_bytes(sheet(4, 2, 32))
    (folder / "samples.png").write_bytes(png(100, 60, 128))
    (folder / "README.md").write_text(CARD)
    return folder


def furnish(root: Path) -> None:
    """A checkpoint, and pictures of each kind for three worlds; the fourth world has none."""
    write_checkpoint(root)
    write_world(root, "emoji", pictures())
    write_world(root, "emoji-truth", clips(seconds=None) | {"command": "denoised world emoji --publish"})
    write_world(root, "clips", clips())
    write_world(root, "toys", whole())
    for path in (root / "site" / "assets" / "worlds").glob("fashion-mnist*"):
        path.unlink()
