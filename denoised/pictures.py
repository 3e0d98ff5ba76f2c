"""Grids of samples as PNG files."""

from __future__ import annotations

from io import BytesIO

import torch
from PIL import Image
from torch import Tensor

GAP = 2  # pixels between pictures


def grid(pictures: Tensor, columns: int) -> Image.Image:
    """Pictures (n, 3, h, w) in [-1, 1] in rows of `columns`, with a thin transparent gap between them."""
    n, _, height, width = pictures.shape
    rows = -(-n // columns)
    sheet = Image.new("RGBA", (columns * (width + GAP) - GAP, rows * (height + GAP) - GAP))
    pixels = ((pictures.clamp(-1, 1) + 1) * 127.5).round().to(torch.uint8).permute(0, 2, 3, 1).numpy()
    for i, picture in enumerate(pixels):
        place = ((i % columns) * (width + GAP), (i // columns) * (height + GAP))
        sheet.paste(Image.fromarray(picture), place)
    return sheet


def png(picture: Image.Image) -> bytes:
    """The picture as PNG bytes, compressed as far as it goes."""
    buffer = BytesIO()
    picture.save(buffer, "PNG", optimize=True)
    return buffer.getvalue()
