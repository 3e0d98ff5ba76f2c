"""The site's own words, in both languages, from one table: site/strings.yaml.

Each key has `ko` and `en`; a text that counts has `one` and `other` under its language. A key that is missing,
or that names different `{places}` in its two languages, is an error before any page is written.
"""

from __future__ import annotations

import re
from datetime import date
from pathlib import Path
from typing import Any

import yaml
from markupsafe import Markup, escape

from denoised.errors import DenoisedError, Exit
from denoised.language import LANGUAGES, Language

_MONTHS = [
    "January",
    "February",
    "March",
    "April",
    "May",
    "June",
    "July",
    "August",
    "September",
    "October",
    "November",
    "December",
]


def read_yaml(path: Path) -> Any:
    """The values of one of our own YAML files. Raises DenoisedError (FINDINGS) where it is not YAML."""
    loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)  # ten times as fast, where PyYAML has it
    try:
        return yaml.load(path.read_text(encoding="utf-8"), Loader=loader)
    except yaml.YAMLError as error:
        raise DenoisedError(f"{path}: {error}", code=Exit.FINDINGS) from error


class Words:
    """The table. `words(language, key, place=value)` is a text with its places filled."""

    def __init__(self, table: dict[str, dict[Language, dict[str, str]]]) -> None:
        self._table = table
        self.used: set[str] = set()

    @property
    def keys(self) -> frozenset[str]:
        return frozenset(self._table)

    def __call__(self, language: Language, key: str, **places: object) -> Markup:
        """The text as HTML: its own markup stands, what fills its places is escaped. Raises KeyError."""
        self.used.add(key)
        forms = self._table[key][language]
        form = "one" if places.get("n") == 1 and "one" in forms else "other"
        shown = {
            name: f"{value:,}" if type(value) is int else escape(value) for name, value in places.items()
        }
        return Markup(forms[form].format(**shown))  # the table is ours


def load_words(path: Path) -> Words:
    """Read and check the table. Raises DenoisedError (FINDINGS) that names every bad key."""
    table: dict[str, dict[Language, dict[str, str]]] = {}
    wrong = []
    for key, texts in read_yaml(path).items():
        if unknown := [str(name) for name in texts if name not in LANGUAGES]:
            wrong.append(f"`{key}` has a text in no language: {', '.join(unknown)}")  # an unquoted comma
        forms: dict[Language, dict[str, str]] = {}
        for language in LANGUAGES:
            text = texts.get(language)
            forms[language] = text if isinstance(text, dict) else {"other": text}
            if not all(isinstance(form, str) and form for form in forms[language].values()):
                wrong.append(f"`{key}` has no text in {language}")
        if (
            not wrong
            and len({frozenset(_places(form) for form in each.values()) for each in forms.values()}) > 1
        ):
            wrong.append(f"`{key}` names other places in ko than in en")
        table[key] = forms
    if wrong:
        raise DenoisedError(f"{path}: " + "; ".join(wrong), code=Exit.FINDINGS)
    return Words(table)


def _places(text: str) -> frozenset[str]:
    return frozenset(re.findall(r"\{(\w+)\}", text))


def day(language: Language, value: date) -> Markup:
    """A date as the language writes it, in a <time> element."""
    if language == "ko":
        text = f"{value.year}년 {value.month}월 {value.day}일"
    else:
        text = f"{value.day} {_MONTHS[value.month - 1]} {value.year}"
    return Markup('<time datetime="{}">{}</time>').format(value.isoformat(), text)
