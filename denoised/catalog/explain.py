"""What each code of a finding means at length, from site/codes.yaml: for `denoised explain` and the site's pages.

Each code has an example that really causes it. What is shown of it is what the checker says of that example.
"""

from __future__ import annotations

import re
import tempfile
import unicodedata
from collections.abc import Iterator
from difflib import get_close_matches
from pathlib import Path
from typing import Annotated, Literal, Self

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from denoised.catalog.characters import shown
from denoised.catalog.load import Reading, read_data
from denoised.catalog.source import read_bytes
from denoised.errors import DenoisedError, Exit
from denoised.language import Language, Phrase, say
from denoised.terminal import wrap

CODES_FILE = "site/codes.yaml"
COLUMNS = 100  # of a paragraph in the terminal

_WRONG = Phrase(ko="틀림:", en="wrong:")
_RIGHT = Phrase(ko="맞음:", en="right:")


class _Model(BaseModel):
    model_config = ConfigDict(strict=True, extra="forbid", frozen=True)


Words = Annotated[str, Field(pattern=r"\S")]


class Text(_Model):
    """A text of ours in both languages."""

    ko: Words
    en: Words

    def to(self, language: Language) -> str:
        """The text in one language."""
        return self.ko if language == "ko" else self.en


class Example(_Model):
    """How the wrong and the right lines get into the example catalog."""

    old: Words | None = None  # the lines that both replace; None: the right ones
    whole: bool = False  # they are the whole file
    encoding: Literal["utf-8", "cp949"] = "utf-8"  # of the wrong file
    padding: int = 0  # characters of a comment that makes the wrong file larger
    runners: dict[str, str] = {}  # the files under runners/, both times


class Explanation(_Model):
    """One code: what it is called, why it is an error, and the smallest lines that cause and mend it."""

    title: Text
    why: Text
    note: Text | None = None
    wrong: Words
    right: Words
    example: Example = Example()

    @property
    def shown(self) -> str:
        """The wrong lines for a reader, with what cannot be seen written out: <U+200B>, \\xb1."""
        if self.example.encoding != "utf-8":
            return self.wrong.encode(self.example.encoding).decode("utf-8", errors="backslashreplace")
        words = re.sub(r"\S+", lambda word: _composed(word[0]), self.wrong)
        return "".join(each if each == "\n" else shown(each) for each in words)


def _composed(word: str) -> str:
    """A word as it stands where it is in NFC; else each letter of it by its number."""
    if unicodedata.is_normalized("NFC", word):
        return word
    return "".join(each if each.isascii() else f"<U+{ord(each):04X}>" for each in word)


class Explanations(_Model):
    """All codes by name, and the catalog without errors that their examples change."""

    catalog: Words
    codes: dict[Annotated[str, Field(pattern=r"^E0[1-3]\d\d$")], Explanation]

    @model_validator(mode="after")
    def _examples_have_their_place(self) -> Self:
        for code in self.codes:
            self.text(code)
        return self

    def text(self, code: str, *, right: bool = False) -> str:
        """The example of a code as the text of a file, wrong or right."""
        explanation = self.codes[code]
        example, new = explanation.example, explanation.right if right else explanation.wrong
        if example.whole:
            return new + "\n"
        old = example.old or explanation.right
        found = list(_places(self.catalog, old))
        if len(found) != 1:
            raise ValueError(f"{code}: stands {len(found)} times in the example catalog: {old!r}")
        ((start, end, column),) = found
        return self.catalog[:start] + _below(new, column) + self.catalog[end:]

    def data(self, code: str, *, right: bool = False) -> bytes:
        """The example of a code as the bytes of a file, wrong or right."""
        text, example = self.text(code, right=right), self.codes[code].example
        if right:
            return text.encode()
        padding = "# " + "." * example.padding if example.padding else ""
        return (text + padding).encode(example.encoding)

    def reading(self, code: str, *, right: bool = False) -> Reading:
        """What becomes of the example of a code, wrong or right, when it is read."""
        data = self.data(code, right=right)
        with tempfile.TemporaryDirectory() as folder:
            for name, text in self.codes[code].example.runners.items():
                path = Path(folder, name)
                path.parent.mkdir(exist_ok=True)
                path.write_text(text, encoding="utf-8")
            return read_data("catalog.yaml", data, runners=Path(folder))


def _places(text: str, lines: str) -> Iterator[tuple[int, int, int]]:
    """Where `lines` stand in `text`, each below the first: start, end, and the column from 0."""
    first = lines.partition("\n")[0]
    for match in re.finditer(re.escape(first), text):
        column = match.start() - text.rfind("\n", 0, match.start()) - 1
        if text.startswith(_below(lines, column), match.start()):
            yield match.start(), match.start() + len(_below(lines, column)), column


def _below(lines: str, column: int) -> str:
    return lines.replace("\n", "\n" + " " * column)


def read_explanations(root: Path) -> Explanations:
    """The explanations in the project at `root`.

    Raises DenoisedError: USAGE where the file cannot be read, FINDINGS where it says anything else than it should.
    """
    path = root / CODES_FILE
    loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)  # ten times as fast, where PyYAML has it
    try:
        return Explanations.model_validate(yaml.load(read_bytes(path), Loader=loader))
    except (yaml.YAMLError, ValidationError) as error:
        raise DenoisedError(f"{path}: {error}", code=Exit.FINDINGS) from error


def explain(root: Path, code: str, language: Language) -> str:
    """What a code means, for the terminal (without a last newline); `code` in capitals or not.

    Raises DenoisedError (USAGE) for an unknown code, naming the nearest ones.
    """
    codes = read_explanations(root).codes
    name = code.strip().upper()
    if name not in codes:
        near = ", ".join(get_close_matches(name, codes, cutoff=0.7)) or f"{min(codes)} … {max(codes)}"
        raise DenoisedError(
            say(ko=f"없는 코드이다: `{code}`", en=f"there is no code `{code}`"),
            help=say(ko=f"있는 코드: {near}", en=f"codes that there are: {near}"),
        )
    told = codes[name]
    parts = [f"{name}: {told.title.to(language)}", _paragraph(told.why, language)]
    parts += [f"{_WRONG.to(language)}\n{_indented(told.shown)}"]
    parts += [f"{_RIGHT.to(language)}\n{_indented(told.right)}"]
    parts += [f"runners/{file}:\n{_indented(text.rstrip())}" for file, text in told.example.runners.items()]
    if told.note:
        parts.append(_paragraph(told.note, language))
    return "\n\n".join(parts)


def _paragraph(text: Text, language: Language) -> str:
    return "\n".join(wrap(text.to(language), COLUMNS))


def _indented(lines: str) -> str:
    return "\n".join(f"    {line}".rstrip() for line in lines.splitlines())
