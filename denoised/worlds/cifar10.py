"""CIFAR-10 from the files of its binary version: no pickle, no download.

Each of `data_batch_1.bin` … `data_batch_5.bin` holds records of one label byte and 3,072 pixel bytes (three
32×32 planes: red, green, blue).
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from denoised.errors import DenoisedError, Exit
from denoised.language import say

RECORD = 1 + 3 * 32 * 32
CLASSES = 10
FILES = tuple(f"data_batch_{i}.bin" for i in range(1, 6))


def load_cifar10(folder: Path) -> tuple[Tensor, Tensor]:
    """The training set: pictures (n, 3, 32, 32) uint8 and labels (n,) int64, in the files' order.

    Raises DenoisedError where a file is missing (USAGE) or is not made of whole records (INTEGRITY).
    """
    pictures, labels = [], []
    for name in FILES:
        path = folder / name
        if not path.is_file():
            raise DenoisedError(
                say(ko=f"{path}가 없다", en=f"{path} is missing"),
                help=say(
                    ko="CIFAR-10의 바이너리 판(cifar-10-binary.tar.gz)을 풀어 data=폴더로 준다",
                    en="unpack the binary version of CIFAR-10 (cifar-10-binary.tar.gz), give it as data=FOLDER",
                ),
            )
        raw = np.fromfile(path, dtype=np.uint8)
        if len(raw) == 0 or len(raw) % RECORD:
            raise DenoisedError(
                say(
                    ko=f"{path}의 크기 {len(raw):,}는 {RECORD:,}바이트 레코드로 나누어떨어지지 않는다",
                    en=f"{path} has {len(raw):,} bytes, which is not a whole number of {RECORD:,}-byte records",
                ),
                code=Exit.INTEGRITY,
            )
        records = torch.from_numpy(raw.reshape(-1, RECORD))
        labels.append(records[:, 0].long())
        pictures.append(records[:, 1:].reshape(-1, 3, 32, 32))
    return torch.cat(pictures), torch.cat(labels)


def to_range(pictures: Tensor) -> Tensor:
    """uint8 pictures as float32 in [-1, 1]."""
    return pictures.float() / 127.5 - 1
