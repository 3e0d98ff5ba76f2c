"""The library -> the text of every page, in one language, by path.

Templates (site/templates) are Jinja with autoescape: what reaches them is either ours, or went through `plain`,
`inline` or `note`, or is escaped by the template itself. Pages are Markdown whose contributed parts stand in
HTML blocks, which the site's Markdown processor hands on untouched.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import date
from html import escape
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from denoised.catalog import Category, Paper
from denoised.catalog.bibtex import bibtex
from denoised.engine.confinement import docker_line
from denoised.language import Language
from denoised.numbers import short
from denoised.site import plot
from denoised.site.codes import CodeView, code_groups
from denoised.site.compare import comparison_views
from denoised.site.library import SCALES, STATUSES, Item, Library
from denoised.site.metrics import benchmark_view, metric_rows
from denoised.site.sampling import sampling_view
from denoised.site.source import argument_to_change
from denoised.site.text import Problems, inline, note, plain, typeset
from denoised.site.views import claim_views, plots, record_view
from denoised.site.words import Words, day
from denoised.site.worlds import World, drawn_view, thumbs_view, vocabulary_view
from denoised.site.zoo import Checkpoint
from denoised.site.zoo_views import (
    facts_view,
    files_view,
    plots_view,
    prompts_view,
    quality_view,
    samples_width,
    summary_view,
)

# The outline of each verdict's sign, in a box of 16: it says by shape what its colour says too.
ICONS = {
    "holds": "M3 8.5l3.2 3.3L13 4.8",
    "fails": "M4 4l8 8M12 4l-8 8",
    "inconclusive": "M2.5 9.2c1.8-2.6 3.6-2.6 5.5-.6s3.7 2 5.5-.6",
    "unverified": "M8 2.5l6 11H2zM8 6.7v3M8 11.4v.4",
    "not-run": "M5.5 3.5l6.5 4.5-6.5 4.5z",
    "no-runner": "M3 8h2M7 8h2M11 8h2",
    "no-claim": "M4 8h8",
}
_SHORTEST_FENCE = 3
# Blank lines that templates leave behind; those inside a fenced block are the code's own.
_SPACE = re.compile(r"^(`{3,})[^`\n]*\n.*?^\1$|\n{3,}", re.DOTALL | re.MULTILINE)


@dataclass(frozen=True)
class Shelf:
    """A category and its papers, newest first."""

    category: Category
    items: tuple[Item, ...]


class Writer:
    """Writes the pages of one language. `problems` collects what was wrong with contributed texts."""

    def __init__(self, library: Library, words: Words, language: Language, problems: Problems) -> None:
        self.library = library
        self.words = words
        self.language: Language = language
        self.other: Language = "en" if language == "ko" else "ko"
        self.problems = problems
        self.newest = sorted(
            library.items, key=lambda item: (item.paper.published or date.min, item.paper.id), reverse=True
        )
        self.shelves = [
            Shelf(category, tuple(item for item in self.newest if item.paper.category == category.id))
            for category in library.catalog.categories
        ]
        self._environment = self._make_environment()

    def _make_environment(self) -> Environment:
        # `{#id}` is Markdown here, so Jinja's comments need another sign.
        environment = Environment(
            loader=FileSystemLoader(self.library.root / "site" / "templates"),
            autoescape=True,
            undefined=StrictUndefined,
            trim_blocks=True,
            lstrip_blocks=True,
            keep_trailing_newline=True,
            comment_start_string="<#",
            comment_end_string="#>",
        )
        environment.filters.update(
            plain=plain,
            inline=lambda text: inline(
                text, where="a text of the catalog or the glossary", problems=self.problems
            ),
            pick=lambda text: getattr(text, self.language),
            pick_other=lambda text: getattr(text, self.other),
            short=short,
            spoken=self._spoken,
            day=lambda value: day(self.language, value),
            fence=fence,
            markdown=as_markdown,
        )
        environment.globals.update(
            t=lambda key, **places: self.words(self.language, key, **places),
            lang=self.language,
            other=self.other,
            icons=ICONS,
            statuses=STATUSES,
            scales=SCALES,
            category_names={
                each.id: getattr(each.name, self.language) for each in self.library.catalog.categories
            },
            shelves=self.shelves,
        )
        return environment

    def _spoken(self, text: str) -> Markup:
        """The attribute that names the language of a title, where it is not the page's."""
        return Markup(' lang="ko"') if self.language == "en" and re.search("[가-힣]", text) else Markup("")

    def pages(self) -> dict[str, str]:
        """Every page by its path."""
        pages = {
            "index.md": self._home(),
            "papers/index.md": self._papers(),
            "categories/index.md": self._page("shelves.md", "categories.title", up="../"),
            "years/index.md": self._groups("years", self._by_year()),
            "tags/index.md": self._groups("tags", self._by_tag()),
            "verdicts/index.md": self._groups("verdicts", self._by_verdict()),
            "compare/index.md": self._compare(),
            "paths/index.md": self._paths(),
            "glossary/index.md": self._glossary(),
            "method/index.md": self._method(),
            "metrics/index.md": self._metrics(),
            "worlds/index.md": self._worlds(),
            "zoo/index.md": self._zoo(),
            **self._codes(),
        }
        for world in self.library.worlds:
            pages[f"worlds/{world.name}/index.md"] = self._world(world)
        for checkpoint in self.library.checkpoints:
            pages[f"zoo/{checkpoint.name}/index.md"] = self._checkpoint(checkpoint)
        for shelf in self.shelves:
            name = getattr(shelf.category.name, self.language)
            pages[f"categories/{shelf.category.id}/index.md"] = self._render(
                "shelf.md",
                _front(plain(name)),
                shelf=shelf,
                items=[self._card(item) for item in shelf.items],
                up="../../",
            )
        for item in self.library.items:
            pages[f"papers/{item.paper.id}/index.md"] = self.paper(item)
        return pages

    # --- pages -------------------------------------------------------------------------------------------

    def _home(self) -> str:
        items = self.library.items
        counts = {
            "papers": len(items),
            "runners": sum(item.method is not None for item in items),
            "measured": sum(item.shown is not None for item in items),
            "holds": sum(item.status == "holds" for item in items),
        }
        strip = plot.strip(
            ("t = T", "", "", "", "t = 0"),
            id="strip",
            title=self._say("home.strip.title"),
            description=self._say("home.strip.description"),
        )
        return self._page(
            "home.md",
            "site.name",
            description="site.description",
            exclude=True,
            counts=counts,
            strip=strip,
            featured=[self._card(item, view=True) for item in self.newest if item.shown and item.paper.claim],
            newest=[self._card(item) for item in self.newest[:12]],
            up="",
        )

    def _papers(self) -> str:
        return self._page(
            "papers.md",
            "papers.title",
            exclude=True,
            items=[self._card(item) for item in self.newest],
            years=self._years(),
            up="../",
        )

    def _by_year(self) -> list[dict[str, Any]]:
        groups = [
            self._group(f"y{year}", str(year), lambda i, year=year: i.paper.year == year)
            for year in self._years()
        ]
        if any(item.paper.year is None for item in self.newest):
            undated = self._say("years.undated")
            groups.append(self._group("undated", undated, lambda i: i.paper.year is None))
        return groups

    def _years(self) -> list[int]:
        return sorted({item.paper.year for item in self.newest if item.paper.year}, reverse=True)

    def _by_tag(self) -> list[dict[str, Any]]:
        names = {tag.id: getattr(tag.name, self.language) for tag in self.library.catalog.tags}
        tags = sorted(
            {tag for item in self.newest for tag in item.paper.tags}
        )  # in one order in both languages
        return [
            self._group(f"tag-{tag}", names.get(tag, tag), lambda i, tag=tag: tag in i.paper.tags)
            for tag in tags
        ]

    def _by_verdict(self) -> list[dict[str, Any]]:
        groups = []
        for status in STATUSES:
            group = self._group(status, self._say(f"status.{status}"), lambda i, s=status: i.status == s)
            groups.append(group | {"meaning": self._text(f"status.{status}.meaning")})
        return groups

    def _groups(self, name: str, groups: list[dict[str, Any]]) -> str:
        return self._page(
            "groups.md",
            f"{name}.title",
            exclude=True,
            heading=f"{name}.title",
            lead=f"{name}.lead",
            groups=groups,
            up="../",
        )

    def _compare(self) -> str:
        return self._page(
            "compare.md",
            "compare.title",
            toc=True,
            **comparison_views(self.library.items, self.words, self.language),
            sampling=sampling_view(self.library.sampling) if self.library.sampling else None,
            up="../",
        )

    def _paths(self) -> str:
        paths = [
            {
                "id": path.id,
                "name": getattr(path.name, self.language),
                "audience": path.audience,
                "steps": [
                    {"item": self.library.item(step.id), "id": step.id, "why": step.why}
                    for step in path.steps
                ],
            }
            for path in self.library.paths
        ]
        return self._page("paths.md", "paths.title", toc=True, paths=paths, up="../")

    def _glossary(self) -> str:
        terms = [
            {"id": f"term-{number}", "term": term.term, "also": term.also, "meaning": term.meaning}
            for number, term in enumerate(self.library.glossary, 1)
        ]
        return self._page("glossary.md", "glossary.title", glossary=terms, up="../")

    def _method(self) -> str:
        return self._page("method.md", "method.title", toc=True, body=self._prose("pages/method"), up="../")

    def _metrics(self) -> str:
        return self._page(
            "metrics.md",
            "metrics.title",
            toc=True,
            body=self._prose("pages/metrics"),
            metrics=metric_rows(self.library.metrics),
            benchmark=benchmark_view(self.library.benchmark) if self.library.benchmark else None,
            up="../",
        )

    def _worlds(self) -> str:
        worlds = [
            {"name": world.name, "thumbs": thumbs_view(world.drawn) if world.drawn else None}
            for world in self.library.worlds
        ]
        return self._page("worlds.md", "worlds.title", description="worlds.lead", worlds=worlds, up="../")

    def _world(self, world: World) -> str:
        drawn, truth = (
            drawn_view(each, self.language) if each else None for each in (world.drawn, world.truth)
        )
        return self._page(
            "world.md",
            f"world.{world.name}.title",
            description=f"world.{world.name}.sentence",
            toc=True,
            name=world.name,
            drawn=drawn,
            truth=truth,
            body=self._prose(f"worlds/{world.name}"),
            vocabulary=vocabulary_view(self.library.vocabulary) if world.name == "emoji" else None,
            up="../../",
        )

    def _zoo(self) -> str:
        checkpoints = [summary_view(each, self.words, self.language) for each in self.library.checkpoints]
        return self._page("zoo.md", "zoo.title", description="zoo.lead", checkpoints=checkpoints, up="../")

    def _checkpoint(self, checkpoint: Checkpoint) -> str:
        about = checkpoint.manifest.about
        return self._render(
            "checkpoint.md",
            _front(
                checkpoint.name,
                description=plain(getattr(about, self.language)) if about else "",
                toc=True,
            ),
            checkpoint=checkpoint,
            quality=quality_view(checkpoint, self.words, self.language),
            prompts=prompts_view(checkpoint, self.words, self.language),
            plots=plots_view(checkpoint, self.words, self.language),
            facts=facts_view(checkpoint),
            files=files_view(checkpoint),
            samples_width=samples_width(checkpoint) if checkpoint.samples else 0,
            up="../../",
        )

    def _codes(self) -> dict[str, str]:
        """The list of what `denoised check` finds, and a page for each code."""
        groups = code_groups(self.library.codes, self.language)
        front = _front(self._say("codes.title"), description=_text_only(self._text("codes.lead")))
        pages = {"codes/index.md": self._render("codes.md", front, groups=groups, up="../")}
        for group in groups:
            for code in group.codes:
                pages[f"codes/{code.name}/index.md"] = self._code(code, group.id)
        return pages

    def _code(self, code: CodeView, group: str) -> str:
        # Its words are few and also those of papers: whoever searches for one of these wants papers first.
        front = _front(f"{code.name} · {code.title}", description=_text_only(code.why), boost=0.5)
        return self._render("code.md", front, code=code, group=group, up="../../")

    def _prose(self, name: str) -> Markup:
        """A text of our own in the page's language, from site/<name>.<language>.md."""
        path = self.library.root / "site" / f"{name}.{self.language}.md"
        return typeset(path.read_text(encoding="utf-8"))

    def paper(self, item: Item) -> str:
        """The page of one entry."""
        paper = item.paper
        views = [
            view
            for scale in SCALES
            if (view := record_view(item, scale, self.words, self.language)) is not None
        ]
        text = item.notes.get(self.language)
        rendered = (
            note(
                text,
                resolve=self._resolve,
                where=f"papers/{paper.id}/{self.language}.md",
                problems=self.problems,
            )
            if text
            else None
        )
        example = argument_to_change(item.method) if item.method else None
        return self._render(
            "paper.md",
            _front(
                plain(paper.name),
                description=plain(_text_only(inline(getattr(paper.sentence, self.language)))),
                toc=True,
            ),
            item=item,
            authors=", ".join(map(plain, paper.authors)),
            links=list(_links(paper)),
            verdicts=self._verdicts(item),
            problems=[
                {"scale": self._say(f"scale.{scale}"), "reason": getattr(reason, self.language)}
                for scale in SCALES
                for reason in item.results[scale].problems
            ],
            views=views,
            views_by_scale={scale: next((v for v in views if v.scale == scale), None) for scale in SCALES},
            pictures=[
                {
                    "path": picture.path,
                    "width": picture.width,
                    "height": picture.height,
                    "caption": plain(getattr(picture.caption, self.language)),
                    "scale": view.scale,
                }
                for view in views
                if view.result.record
                for picture in view.result.record.pictures
            ],
            plots=[each for scale in SCALES for each in plots(item, scale, self.words, self.language)],
            docker_line=" \\\n  ".join(docker_line("denoised:cpu", ["run", paper.id])),
            config_example={"name": example[0], "override": example[1]} if example else None,
            note=rendered,
            bibtex=bibtex(paper).rstrip("\n"),
            builds_on=[self._reference(id) for id in paper.builds_on],
            prerequisites=[self._reference(id) for id in paper.prerequisites],
            built_upon=[self._reference(each.id) for each in self.library.catalog.built_on(paper.id)],
            up="../../",
        )

    # --- parts -------------------------------------------------------------------------------------------

    def _verdicts(self, item: Item) -> list[dict[str, Any]]:
        """The paper's status, and the paper scale's own where it differs from it or says more."""
        found = []
        for scale in SCALES:
            result = item.results[scale]
            status = item.at(scale)
            found.append({"scale": scale, "status": status, "result": result})
        return found if item.paper.claim and item.method else found[:1]

    def _card(self, item: Item, *, view: bool = False) -> dict[str, Any]:
        shown = item.shown
        claims = claim_views(shown.record, self.words, self.language) if shown and shown.record else ()
        scale = next((scale for scale in SCALES if item.results[scale].record), SCALES[0])
        return {
            "paper": item.paper,
            "status": item.status,
            "headline": claims[0] if claims else None,
            "view": record_view(item, scale, self.words, self.language) if view else None,
        }

    def _group(self, id: str, name: str, fits: Any) -> dict[str, Any]:
        items = [self._card(item) for item in self.newest if fits(item)]
        return {"id": id, "name": name, "members": items, "meaning": ""}

    def _reference(self, id: str) -> dict[str, Any]:
        item = self.library.item(id)
        return {"id": id, "known": item is not None, "name": item.paper.name if item else id}

    def _resolve(self, address: str) -> str | None:
        """Notes link to each other as files, `../ddpm/index.md`, so that they also work where they are written."""
        match = re.fullmatch(r"\.\./([a-z0-9-]+)/index\.md", address)
        return f"../{match[1]}/" if match and self.library.item(match[1]) else None

    # --- words -------------------------------------------------------------------------------------------

    def _text(self, key: str) -> Markup:
        return self.words(self.language, key)

    def _say(self, key: str) -> str:
        return self._text(key).unescape()

    def _page(
        self,
        template: str,
        title: str,
        *,
        up: str,
        description: str = "",
        exclude: bool = False,
        toc: bool = False,
        **context: Any,
    ) -> str:
        front = _front(
            self._say(title),
            description=self._say(description) if description else "",
            exclude=exclude,
            toc=toc,
        )
        return self._render(template, front, up=up, **context)

    def _render(self, template: str, front: str, **context: Any) -> str:
        # A macro file imported "with context" sees what render() was given.
        text = self._environment.get_template(template).render(**context)
        tidy = _SPACE.sub(lambda match: match[0] if match[1] else "\n\n", text).strip()
        return f"{front}\n{tidy}\n"


def _front(
    title: str, *, description: str = "", exclude: bool = False, boost: float = 1.0, toc: bool = False
) -> str:
    """Front matter. The theme prints title and description raw, so they are escaped here once and for all."""
    fields: dict[str, Any] = {
        "title": escape(title),
        "description": escape(description),
        "hide": ["navigation"] if toc else ["navigation", "toc"],
    }
    if exclude:
        fields["search"] = {"exclude": True}
    elif boost != 1.0:
        fields["search"] = {"boost": boost}
    lines = [f"{key}: {json.dumps(value, ensure_ascii=False)}" for key, value in fields.items() if value]
    return "\n".join(["---", *lines, "---", ""])


def fence(code: str, language: str, first_line: int | None = None) -> Markup:
    """A fenced block that its own content cannot close; with line numbers from `first_line` if given."""
    longest = max((len(run) for run in re.findall(r"`+", code)), default=0)
    ticks = "`" * max(_SHORTEST_FENCE, longest + 1)
    numbers = f' linenums="{first_line}"' if first_line else ""
    return Markup(f"{ticks}{language}{numbers}\n{code}\n{ticks}")  # a fence: code is not markup


def as_markdown(text: str) -> Markup:
    """Text for a Markdown heading: every character that Markdown or HTML could read as more than itself escaped."""
    return Markup(re.sub(r"[^\w\s,]", lambda match: f"&#{ord(match[0])};", plain(text)).replace("_", "&#95;"))


def _text_only(html: Markup) -> str:
    return Markup(re.sub(r"<[^>]*>", "", html)).unescape()  # read as text, escaped again


def _links(paper: Paper) -> Iterable[Mapping[str, str]]:
    addresses = {
        "arxiv": paper.arxiv_url,
        "paper": paper.links.paper,
        "openreview": paper.links.openreview,
        "code": paper.links.code,
        "code_unofficial": paper.links.code_unofficial,
        "weights": paper.links.weights,
        "demo": paper.links.demo,
        "notebook": paper.links.notebook,
        "video": paper.links.video,
        "post": paper.links.post,
        "project": paper.links.project,
        "slides": paper.links.slides,
    }
    return ({"kind": kind, "url": url} for kind, url in addresses.items() if url)
