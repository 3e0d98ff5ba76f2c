"""Fashion-MNIST's files: small valid ones are read exactly, broken ones are named and refused."""

from __future__ import annotations

import gzip
import struct
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from denoised.cli import main
from denoised.errors import DenoisedError, Exit
from denoised.language import speaking
from denoised.worlds.fashion_mnist import CLASSES, DEBIAN_FOLDER, load_fashion_mnist

COUNT = 20
IMAGES, LABELS = "t10k-images-idx3-ubyte.gz", "t10k-labels-idx1-ubyte.gz"
INSTALL = (
    "Debian and Ubuntu: apt-get install dataset-fashion-mnist; where it lies elsewhere, "
    "name its folder with --folder"
)


def idx(values: bytes, *shape: int, kind: int = 8) -> bytes:
    """An idx file, before compression."""
    return struct.pack(f">BBBB{len(shape)}I", 0, 0, kind, len(shape), *shape) + values


def pixels() -> bytes:
    return np.random.default_rng(0).integers(0, 256, COUNT * 28 * 28, dtype=np.uint8).tobytes()


def numbers() -> bytes:
    return bytes(i % len(CLASSES) for i in range(COUNT))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Twenty pictures, two of each class, in the test split's files."""
    (tmp_path / IMAGES).write_bytes(gzip.compress(idx(pixels(), COUNT, 28, 28)))
    (tmp_path / LABELS).write_bytes(gzip.compress(idx(numbers(), COUNT)))
    return tmp_path


@pytest.fixture(autouse=True)
def _english(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DENOISED_LANG", "en")


def test_every_byte_is_where_the_format_says(folder: Path) -> None:
    clothes = load_fashion_mnist(folder, "test")
    assert len(clothes) == COUNT and clothes.pictures.shape == (COUNT, 1, 28, 28)
    assert clothes.pictures.dtype == torch.float32 and clothes.labels.tolist() == list(numbers())
    assert torch.equal(
        ((clothes.pictures + 1) * 127.5).round().byte().flatten(), torch.tensor(list(pixels())).byte()
    )
    assert (float(clothes.pictures.min()), float(clothes.pictures.max())) == (-1, 1)


def test_the_training_split_has_files_of_its_own(folder: Path) -> None:
    for name in (IMAGES, LABELS):
        (folder / name).rename(folder / name.replace("t10k", "train"))
    assert len(load_fashion_mnist(folder)) == COUNT
    with pytest.raises(DenoisedError) as caught:
        load_fashion_mnist(folder, "test")
    assert caught.value.message == f"{folder / IMAGES} is missing"


def test_what_is_not_installed_is_named_with_the_package(tmp_path: Path) -> None:
    with pytest.raises(DenoisedError) as caught:
        load_fashion_mnist(tmp_path)
    error = caught.value
    assert error.message == f"{tmp_path / 'train-images-idx3-ubyte.gz'} is missing"
    assert error.help == INSTALL and error.code is Exit.USAGE
    with speaking("ko"), pytest.raises(DenoisedError) as caught:
        load_fashion_mnist(tmp_path)
    assert caught.value.message.endswith("파일이 없다") and "apt-get install" in (caught.value.help or "")


@pytest.mark.parametrize(
    ("name", "data", "says"),
    [
        (IMAGES, b"", "it is cut off"),
        (IMAGES, b"<html>not found</html>", "it is not a whole gzip file"),
        (IMAGES, idx(pixels(), COUNT, 28, 28), "it is not a whole gzip file"),
        (IMAGES, gzip.compress(b""), "it is cut off"),
        (
            IMAGES,
            gzip.compress(idx(numbers(), COUNT)),
            "it must start with 00000803, and starts with 00000801",
        ),
        (
            IMAGES,
            gzip.compress(idx(pixels(), COUNT, 28, 28, kind=0x0D)),
            "it must start with 00000803, and starts with 00000d03",
        ),
        (IMAGES, gzip.compress(idx(pixels(), COUNT, 28, 28)[:9]), "it is cut off"),
        (IMAGES, gzip.compress(idx(pixels(), COUNT, 28, 28))[:-2000], "it is cut off"),
        (IMAGES, gzip.compress(idx(pixels(), COUNT, 28, 28))[:-8] + bytes(8), "it is not a whole gzip file"),
        (
            IMAGES,
            gzip.compress(idx(pixels()[:-1], COUNT, 28, 28)),
            "it must hold 15,680 values and holds fewer",
        ),
        (
            IMAGES,
            gzip.compress(idx(pixels() + b"0", COUNT, 28, 28)),
            "it must hold 15,680 values and holds more",
        ),
        (
            IMAGES,
            gzip.compress(idx(pixels(), COUNT, 14, 56)),
            "its dimensions are 20×14×56, and those of Fashion-MNIST 60000×28×28 at most",
        ),
        (
            IMAGES,
            gzip.compress(idx(pixels(), 2**32 - 1, 28, 28)),
            "its dimensions are 4294967295×28×28, and those of Fashion-MNIST 60000×28×28 at most",
        ),
        (
            LABELS,
            gzip.compress(idx(b"", 0)),
            "its dimensions are 0, and those of Fashion-MNIST 60000 at most",
        ),
        (
            LABELS,
            gzip.compress(idx(numbers()[:-1], COUNT - 1)),
            f"it has 19 labels, but {IMAGES} has 20 pictures",
        ),
        (
            LABELS,
            gzip.compress(idx(bytes([10] * COUNT), COUNT)),
            "it has the label 10, and classes go from 0 to 9",
        ),
    ],
)
def test_a_file_that_is_not_whole_or_not_this_data_set_is_refused(
    folder: Path, name: str, data: bytes, says: str
) -> None:
    (folder / name).write_bytes(data)
    with pytest.raises(DenoisedError) as caught:
        load_fashion_mnist(folder, "test")
    assert caught.value.message == f"{folder / name}: {says}"
    assert caught.value.help == INSTALL and caught.value.code is Exit.INTEGRITY


def test_no_damaged_byte_goes_unnoticed(folder: Path) -> None:
    """gzip's checksum sees every change of the values; what it lets pass leaves the values as they were."""
    whole, expected = (folder / IMAGES).read_bytes(), load_fashion_mnist(folder, "test")
    generator, refused = np.random.default_rng(1), 0
    for position in generator.integers(10, len(whole), 100).tolist():
        damaged = bytearray(whole)
        damaged[position] ^= 1 << int(generator.integers(8))
        (folder / IMAGES).write_bytes(damaged)
        try:
            read = load_fashion_mnist(folder, "test")
        except DenoisedError:
            refused += 1
        else:
            assert torch.equal(read.pictures, expected.pictures)
    assert refused > 90


def test_its_preview_is_a_row_for_each_class(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = folder / "clothes.png"
    assert main(["world", "fashion-mnist", "--folder", str(folder), "--out", str(path)]) == Exit.OK
    assert capsys.readouterr().out.splitlines() == [name.en for name in CLASSES]
    with Image.open(path) as picture:
        assert picture.size == (2 * 58 - 2, 10 * 58 - 2)
        shades = np.asarray(picture.convert("RGB"))
    assert (shades == shades[..., :1]).all()  # grey


@pytest.mark.skipif(
    not (DEBIAN_FOLDER / IMAGES).is_file(), reason="no Fashion-MNIST: apt-get install dataset-fashion-mnist"
)
@pytest.mark.parametrize(("split", "count"), [("train", 60_000), ("test", 10_000)])
def test_the_installed_data_set_is_read_whole(split: str, count: int) -> None:
    clothes = load_fashion_mnist(split=split)  # type: ignore[arg-type]
    assert clothes.labels.bincount().tolist() == [count // 10] * 10
