"""The emoji world's tokenizer: CLIP's byte-level BPE with merges made for a closed vocabulary.

Every English word of a caption is one token; so is every Korean word, except that a noun and the particle
after it are two (고양이|가), so that a noun is the same token whatever follows it. The files are shipped with
the checkpoints: they are data, not to be made anew for a trained network.
"""

from __future__ import annotations

import json
from collections import Counter
from itertools import pairwise
from pathlib import Path

from transformers import CLIPTokenizer

from denoised.worlds.emoji.atlas import (
    ACCESSORIES,
    BACKGROUNDS,
    COUNTS,
    RELATIONS,
    SIZES,
    STYLES,
    TEXTURES,
    load_atlas,
)
from denoised.worlds.emoji.captions import words

LENGTH = 24  # tokens, with the start and the end
START, END = "<|startoftext|>", "<|endoftext|>"
PARTICLES = ("이", "가")
WORD_END = "</w>"
FILES = ("vocab.json", "merges.txt", "tokenizer_config.json")


def vocabulary() -> list[tuple[str, bool]]:
    """Every piece that is to be one token, and whether a word ends with it."""
    pieces: dict[tuple[str, bool], None] = {}
    terms = (*TEXTURES, *SIZES, *ACCESSORIES, *STYLES, *RELATIONS)
    phrases = ["a an on background", "배경에 있다"]
    phrases += [phrase for _, en, ko in terms for phrase in (en, ko)]
    phrases += [phrase for en, ko, _ in BACKGROUNDS for phrase in (en.replace("-", " "), ko)]
    phrases += [phrase for count in COUNTS for phrase in count]
    for thing in load_atlas().objects:
        phrases += [thing.en, thing.en_plural, thing.ko]
        pieces[thing.ko.split()[-1], False] = None  # before a particle
        pieces[thing.ko_counter, False] = None
    for phrase in phrases:
        pieces |= dict.fromkeys((word, True) for word in words(phrase))
    return [*pieces, *((particle, True) for particle in PARTICLES)]


def known_words() -> list[str]:
    """Every piece once, for the manifest of a checkpoint that knows no others."""
    return sorted({text for text, _ in vocabulary()})


def merges(pieces: list[tuple[str, bool]]) -> list[tuple[str, str]]:
    """Byte-pair merges after which each piece is one token.

    Sennrich et al. 2016 (arXiv:1508.07909), Algorithm 1, run until nothing is left to merge; of equally
    frequent pairs the alphabetically first. First within characters, so that no token ever holds a part of
    a Hangul syllable and a part of the next.
    """
    characters = {(c, ends and i == len(text) - 1) for text, ends in pieces for i, c in enumerate(text)}
    within = _learn([_symbols(text, ends) for text, ends in sorted(characters)])
    symbols = [_symbols(text, ends) for text, ends in pieces]
    for pair in within:
        symbols = [_merged(piece, pair) for piece in symbols]
    return within + _learn(symbols)


def _symbols(text: str, ends: bool) -> list[str]:
    alphabet = byte_characters()
    symbols = [alphabet[byte] for byte in text.encode()]
    return [*symbols[:-1], symbols[-1] + (WORD_END if ends else "")]


def _learn(symbols: list[list[str]]) -> list[tuple[str, str]]:
    found = []
    while pairs := Counter(pair for piece in symbols for pair in pairwise(piece)):
        pair = min(pairs, key=lambda p: (-pairs[p], p))
        found.append(pair)
        symbols = [_merged(piece, pair) for piece in symbols]
    return found


def _merged(symbols: list[str], pair: tuple[str, str]) -> list[str]:
    merged: list[str] = []
    for symbol in symbols:
        if merged and (merged[-1], symbol) == pair:
            merged[-1] += symbol
        else:
            merged.append(symbol)
    return merged


def byte_characters() -> dict[int, str]:
    """GPT-2's printable character for each byte, which CLIP's vocabulary files are written in."""
    printable = [*range(ord("!"), ord("~") + 1), *range(0xA1, 0xAC + 1), *range(0xAE, 0xFF + 1)]
    others = [byte for byte in range(256) if byte not in printable]
    return {byte: chr(byte) for byte in printable} | {byte: chr(256 + i) for i, byte in enumerate(others)}


def write_tokenizer(folder: Path) -> None:
    """Write vocab.json, merges.txt and the configuration that `CLIPTokenizer.from_pretrained` reads."""
    pairs = merges(vocabulary())
    characters = list(byte_characters().values())
    tokens = [
        *characters,
        *(c + WORD_END for c in characters),
        *("".join(pair) for pair in pairs),
        START,
        END,
    ]
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "vocab.json").write_text(
        json.dumps({token: i for i, token in enumerate(tokens)}, ensure_ascii=False), encoding="utf-8"
    )
    lines = ["#version: 0.2", *(" ".join(pair) for pair in pairs)]
    (folder / "merges.txt").write_text("\n".join(lines) + "\n", encoding="utf-8")
    configuration = {
        "tokenizer_class": "CLIPTokenizer",
        "bos_token": START,
        "eos_token": END,
        "unk_token": END,
        "pad_token": END,
        "model_max_length": LENGTH,
    }
    (folder / "tokenizer_config.json").write_text(json.dumps(configuration, indent=2) + "\n")


def load_tokenizer(folder: Path) -> CLIPTokenizer:
    tokenizer: CLIPTokenizer = CLIPTokenizer.from_pretrained(folder)
    return tokenizer
