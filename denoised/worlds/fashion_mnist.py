"""Fashion-MNIST (Xiao et al. 2017, arXiv:1708.07747) from the gzip idx files that Debian's package installs.

Nothing is downloaded. An idx file is a magic number (two zero bytes, the type of the values, how many
dimensions), the dimensions as big-endian 32-bit numbers, then the values; anything else is refused.
"""

from __future__ import annotations

import gzip
import math
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from denoised.errors import DenoisedError, Exit
from denoised.language import Phrase, say

PACKAGE = "dataset-fashion-mnist"
DEBIAN_FOLDER = Path("/usr/share/datasets/fashion-mnist")
SIDE = 28  # pixels
MOST = 60_000  # pictures in the larger file
_UNSIGNED_BYTES = 0x08

CLASSES: tuple[Phrase, ...] = (
    Phrase(ko="티셔츠나 상의", en="T-shirt or top"),
    Phrase(ko="바지", en="trousers"),
    Phrase(ko="스웨터", en="pullover"),
    Phrase(ko="원피스", en="dress"),
    Phrase(ko="코트", en="coat"),
    Phrase(ko="샌들", en="sandal"),
    Phrase(ko="셔츠", en="shirt"),
    Phrase(ko="운동화", en="sneaker"),
    Phrase(ko="가방", en="bag"),
    Phrase(ko="발목 부츠", en="ankle boot"),
)


@dataclass(frozen=True)
class FashionMnist:
    """`pictures` (n, 1, 28, 28) float32 in [-1, 1] and `labels` (n,) int64, positions in CLASSES."""

    pictures: Tensor
    labels: Tensor

    def __len__(self) -> int:
        return len(self.labels)


def load_fashion_mnist(folder: Path | None = None, split: Literal["train", "test"] = "train") -> FashionMnist:
    """One of the two splits, in the files' order, from `folder` or from where Debian's package puts it.

    Raises DenoisedError where a file is missing (USAGE), is damaged, is another kind of file or does not go
    with the other (INTEGRITY).
    """
    folder = folder or DEBIAN_FOLDER
    prefix = {"train": "train", "test": "t10k"}[split]
    images, labels = folder / f"{prefix}-images-idx3-ubyte.gz", folder / f"{prefix}-labels-idx1-ubyte.gz"
    for path in (images, labels):
        if not path.is_file():
            raise DenoisedError(
                say(ko=f"{path} 파일이 없다", en=f"{path} is missing"), help=_how_to_install()
            )
    pictures, numbers = _read_idx(images, (SIDE, SIDE)), _read_idx(labels, ())
    if len(pictures) != len(numbers):
        raise _broken(
            labels,
            ko=f"레이블은 {len(numbers):,}개인데 {images.name}의 그림은 {len(pictures):,}개이다",
            en=f"it has {len(numbers):,} labels, but {images.name} has {len(pictures):,} pictures",
        )
    if numbers.max() >= len(CLASSES):
        raise _broken(
            labels,
            ko=f"{numbers.max()}번 레이블이 있는데 클래스는 0번부터 {len(CLASSES) - 1}번까지이다",
            en=f"it has the label {numbers.max()}, and classes go from 0 to {len(CLASSES) - 1}",
        )
    scaled = torch.from_numpy(pictures).float().div_(127.5).sub_(1)
    return FashionMnist(scaled[:, None], torch.from_numpy(numbers).long())


def _read_idx(path: Path, inner: tuple[int, ...]) -> NDArray[np.uint8]:
    """The values of a gzip idx file of unsigned bytes: up to MOST entries, each of the shape `inner`."""
    magic = bytes((0, 0, _UNSIGNED_BYTES, 1 + len(inner)))
    try:
        with gzip.open(path) as file:
            head = file.read(4 + 4 * magic[3])
            if len(head) < 4 + 4 * magic[3]:
                raise EOFError
            if not head.startswith(magic):
                raise _broken(
                    path,
                    ko=f"첫 4바이트가 {head[:4].hex()}인데 {magic.hex()}여야 한다",
                    en=f"it must start with {magic.hex()}, and starts with {head[:4].hex()}",
                )
            count, *rest = np.frombuffer(head, dtype=">u4", offset=4).tolist()
            if tuple(rest) != inner or not 0 < count <= MOST:
                found, wanted = ("×".join(map(str, each)) for each in ([count, *rest], [MOST, *inner]))
                raise _broken(
                    path,
                    ko=f"크기가 {found}인데 Fashion-MNIST는 많아야 {wanted}이다",
                    en=f"its dimensions are {found}, and those of Fashion-MNIST {wanted} at most",
                )
            expected = count * math.prod(inner)
            values = file.read(expected + 1)  # one more, to see whether there is more
    except EOFError as error:
        raise _broken(path, ko="파일이 중간에서 끊겼다", en="it is cut off") from error
    except (gzip.BadGzipFile, zlib.error) as error:
        raise _broken(path, ko="온전한 gzip 파일이 아니다", en="it is not a whole gzip file") from error
    if len(values) != expected:
        more = len(values) > expected
        raise _broken(
            path,
            ko=f"값이 {expected:,}개여야 하는데 그보다 {'많다' if more else '적다'}",
            en=f"it must hold {expected:,} values and holds {'more' if more else 'fewer'}",
        )
    return np.frombuffer(values, dtype=np.uint8).reshape(count, *inner).copy()  # writable, as torch wants it


def _broken(path: Path, *, ko: str, en: str) -> DenoisedError:
    return DenoisedError(
        say(ko=f"{path}: {ko}", en=f"{path}: {en}"), help=_how_to_install(), code=Exit.INTEGRITY
    )


def _how_to_install() -> str:
    return say(
        ko=f"데비안과 우분투: apt-get install {PACKAGE}. 다른 곳에 있으면 그 폴더를 준다: --folder",
        en=f"Debian and Ubuntu: apt-get install {PACKAGE}; where it lies elsewhere, name its folder with --folder",
    )
