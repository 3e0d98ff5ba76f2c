"""Korean particles, chosen by whether the word before them ends in a consonant."""

from __future__ import annotations

_HANGUL_FIRST, _HANGUL_LAST, _FINALS = 0xAC00, 0xD7A3, 28


def with_particle(word: str, after_consonant: str, after_vowel: str) -> str:
    """`word` with 이/가, 을/를 or 은/는: the first form after a final consonant, the second after a vowel.

    Raises ValueError when the last character is not a Hangul syllable, whose sound cannot be known.
    """
    last = ord(word[-1])
    if not _HANGUL_FIRST <= last <= _HANGUL_LAST:
        raise ValueError(f"{word!r} does not end in a Hangul syllable")
    has_final = (last - _HANGUL_FIRST) % _FINALS != 0
    return word + (after_consonant if has_final else after_vowel)
