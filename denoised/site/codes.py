"""The pages of the codes: why each is an error, and what the checker itself says of an example."""

from __future__ import annotations

from dataclasses import dataclass

from markupsafe import Markup

from denoised.catalog import render
from denoised.catalog.explain import Explanation, Explanations
from denoised.contribute.fix import fix
from denoised.language import Language
from denoised.site.text import inline, plain

GROUPS = ("E01", "E02", "E03")


@dataclass(frozen=True)
class CodeView:
    """One code as its page shows it."""

    name: str
    title: str
    why: Markup
    note: Markup | None
    wrong: str
    right: str
    runners: tuple[tuple[str, str], ...]  # path and text of each file beside the catalog
    printed: Markup  # by `denoised check`, in the page's language, as one line of HTML
    mended: bool  # by `denoised fix`


@dataclass(frozen=True)
class CodeGroup:
    """The codes that begin alike."""

    id: str
    codes: tuple[CodeView, ...]


def code_groups(explanations: Explanations, language: Language) -> list[CodeGroup]:
    """All codes in their order, by group."""
    return [
        CodeGroup(
            group,
            tuple(
                _view(explanations, name, explanation, language)
                for name, explanation in sorted(explanations.codes.items())
                if name.startswith(group)
            ),
        )
        for group in GROUPS
    ]


def _view(explanations: Explanations, name: str, explanation: Explanation, language: Language) -> CodeView:
    note = explanation.note
    return CodeView(
        name,
        plain(explanation.title.to(language)),
        inline(explanation.why.to(language)),
        inline(note.to(language)) if note else None,
        explanation.shown,
        explanation.right,
        tuple((f"runners/{path}", text.rstrip()) for path, text in explanation.example.runners.items()),
        printed(explanations, name, language),
        name in fix("catalog.yaml", explanations.data(name)).mended,
    )


def printed(explanations: Explanations, name: str, language: Language) -> Markup:
    """What `denoised check` prints of a code's example, as HTML whose lines end in references."""
    reading = explanations.reading(name)
    text = render(reading.findings, reading.source, "human", language)
    return Markup("&#10;").join(text.split("\n"))
