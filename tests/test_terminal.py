"""Columns of a terminal: Hangul takes two."""

from __future__ import annotations

import pytest

from denoised.terminal import cut, pad, width, wrap


@pytest.mark.parametrize(
    ("text", "columns"),
    [
        ("abc", 3),
        ("확산", 4),
        ("ＡＢ", 4),
        ("\u1112\u116a\u11a8", 2),  # 확, decomposed
        ("e\u0301", 1),
        ("x̄ᾱ", 2),
        ("🎨", 2),
        ("–×ε", 3),
        ("", 0),
    ],
)
def test_width(text: str, columns: int) -> None:
    assert width(text) == columns


@pytest.mark.parametrize("columns", range(1, 12))
def test_a_cut_text_fits_and_says_that_it_was_cut(columns: int) -> None:
    text = cut("확산 model", columns)
    assert width(text) <= columns
    assert text == "확산 model" if columns >= 10 else text.endswith("…")


def test_padding_counts_columns() -> None:
    assert pad("확산", 6) + "|" == "확산  |"


@pytest.mark.parametrize("columns", range(6, 60))
def test_wrapping_loses_nothing_and_fits(columns: int) -> None:
    text = "무작위 시점에 섞은 노이즈 ε을 가중치 없는 MSE로 맞히게 하면 쉬운 구간의 비중이 줄어든다."
    lines = wrap(text, columns)
    assert " ".join(lines) == text
    assert all(width(line) <= columns or " " not in line for line in lines)


def test_nothing_wraps_to_nothing() -> None:
    assert wrap("", 10) == []
