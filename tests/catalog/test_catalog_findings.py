"""Each code: the smallest mistake that causes it, where it is pointed at, and what is said."""

from __future__ import annotations

import re
from pathlib import Path
from typing import NamedTuple

import pytest

from denoised.catalog import CODES
from denoised.catalog.load import read_data
from denoised.catalog.source import SIZE_LIMIT

VALID = (Path(__file__).parent / "fixtures" / "valid.yaml").read_text(encoding="utf-8")


class Mistake(NamedTuple):
    """`old` in the valid catalog written as `new` (None: `new` is the whole file) and what must be found."""

    code: str
    old: str | None
    new: str
    place: tuple[int, int]  # line, column
    marked: str  # the text from there to the end of the finding
    message: str
    help: str


SAMPLER = "{id: sampler, name: {ko: 샘플러, en: Sampler}}"
DETERMINISTIC = "{id: deterministic, name: {ko: 결정론, en: Deterministic}}"
TRAINING = "{id: training, name: {ko: 학습, en: Training}}"

MISTAKES = [
    Mistake(
        "E0103",
        None,
        "\ufeff" + VALID,
        (1, 1),
        "",
        "the file begins with a byte-order mark",
        "save the file as UTF-8 without BOM",
    ),
    Mistake(
        "E0104",
        "기초,",
        "\u1100\u1175\u110e\u1169,",
        (3, 34),
        "\u1100\u1175\u110e\u1169,",
        "`기초,` is not in the Unicode normal form NFC",
        "type it again (Hangul copied from macOS file names comes decomposed)",
    ),
    Mistake(
        "E0105",
        "Denoising Diffusion Implicit Models",
        "Denoising \u202e\u202eImplicit Models",
        (9, 22),
        "\u202e\u202e",
        "U+202E RIGHT-TO-LEFT OVERRIDE may not stand in the catalog",
        "delete it, or write an ordinary space",
    ),
    Mistake(
        "E0105",
        "venue: ICLR 2021",
        'venue: "ICLR\\u202e 2021"',
        (12, 12),
        '"ICLR\\u202e 2021"',
        "U+202E RIGHT-TO-LEFT OVERRIDE may not stand in the catalog",
        "delete it, or write an ordinary space",
    ),
    Mistake(
        "E0105",
        "# A small",
        "#\u00a0A small",
        (1, 2),
        "\u00a0",
        "U+00A0 NO-BREAK SPACE may not stand in the catalog",
        "delete it, or write an ordinary space",
    ),
    Mistake(
        "E0105",
        "name: DDIM",
        "name:\tDDIM",
        (7, 10),
        "\t",
        "U+0009 TAB may not stand in the catalog",
        "delete it, or write an ordinary space",
    ),
    Mistake(
        "E0106",
        "title: Denoising Diffusion Implicit",
        "title: DDIM: Implicit",
        (9, 16),
        ":",
        "this is not YAML: a colon inside a text without quotes",
        'title: "DDIM: Implicit Models"',
    ),
    Mistake(
        "E0106",
        "title: Denoising Diffusion Implicit Models",
        "title: 'Denoising Diffusion Implicit Models",
        (9, 12),
        "'",
        "this is not YAML: the quotation mark is never closed",
        "close it with the same mark",
    ),
    Mistake(
        "E0106",
        "title: Denoising Diffusion Implicit Models",
        "title: 'What's new'",
        (9, 18),
        "s",
        "this is not YAML: text goes on after the closing quotation mark",
        "enclose the whole text in the other kind of quotation mark",
    ),
    Mistake(
        "E0106",
        "title: Denoising Diffusion Implicit Models",
        "title: @home",
        (9, 12),
        "@",
        "this is not YAML: a text without quotes cannot begin with `@`",
        'title: "@home"',
    ),
    Mistake(
        "E0106",
        "    tags: [sampler, deterministic]",
        "    tags: [sampler, deterministic",
        (14, 11),
        "[",
        "this is not YAML: the bracket is never closed",
        "close a list with `]`, a mapping with `}`",
    ),
    Mistake(
        "E0106",
        "{ko: 기초, en: Foundations}}",
        "{ko: 기초 en: Foundations}}",
        (3, 39),
        ":",
        "this is not YAML: a comma or a closing bracket is missing",
        "put a text with commas, colons or brackets in quotes",
    ),
    Mistake(
        "E0106",
        "[training]",
        "[training]]",
        (34, 21),
        "]",
        "this is not YAML: a bracket closes that was never opened",
        "delete it",
    ),
    Mistake(
        "E0106",
        "    venue: ICLR 2021",
        "   venue: ICLR 2021",
        (12, 4),
        "v",
        "this is not YAML: indented unlike its neighbours",
        "fields of one entry begin in the same column",
    ),
    Mistake(
        "E0106",
        "    venue: ICLR 2021\n",
        "    venue ICLR 2021\n",
        (12, 5),
        "v",
        "this is not YAML: a line without its colon",
        "write `name: value`",
    ),
    Mistake(
        "E0106",
        "tags: [training]",
        "tags: - training",
        (34, 11),
        "-",
        "this is not YAML: a list's `-` may not stand here",
        "begin the list on the next line",
    ),
    Mistake(
        "E0106",
        "venue: ICLR 2021",
        'venue: "ICLR \\2021"',
        (12, 18),
        "\\",
        "this is not YAML: an unknown escape after `\\` in double quotes",
        "use single quotes, or write `\\\\`",
    ),
    Mistake(
        "E0107",
        "venue: ICLR 2021",
        "venue: &where ICLR 2021",
        (12, 12),
        "&where ICLR 2021",
        "anchors and aliases are not allowed: `&where`",
        "an entry must be readable on its own: copy the value here",
    ),
    Mistake(
        "E0108",
        "venue: ICLR 2021",
        "venue: !!str ICLR 2021",
        (12, 12),
        "!!str ICLR 2021",
        "YAML tags are not allowed: `tag:yaml.org,2002:str`",
        "the field decides the type of its value",
    ),
    Mistake(
        "E0109",
        None,
        VALID + "---\npapers: []\n",
        (52, 1),
        "---",
        "the file must hold one YAML document",
        "delete the `---`, `...` or `%` line and make it one document",
    ),
    Mistake(
        "E0109",
        None,
        VALID + "...\npapers: []\n",
        (53, 1),
        "papers: []",
        "the file must hold one YAML document",
        "delete the `---`, `...` or `%` line and make it one document",
    ),
    Mistake(
        "E0110",
        "    venue: ICLR 2021",
        "    <<: {venue: ICLR 2021}",
        (12, 5),
        "<<",
        "the merge key `<<` is not allowed",
        "an entry must be readable on its own: copy the fields here",
    ),
    Mistake(
        "E0111",
        "tags: [training]",
        "tags: " + "[" * 20 + "]" * 20,
        (34, 20),
        "[",
        "nested deeper than 12 levels",
        "a catalog needs four or five levels",
    ),
    Mistake(
        "E0112",
        "    venue: ICLR 2021",
        "    [venue]: ICLR 2021",
        (12, 5),
        "[venue]",
        "the name of a field must be a word",
        "write `name: value`",
    ),
    Mistake(
        "E0113",
        "    kind: video",
        "    kind: video\n    name: Review",
        (45, 5),
        "name",
        "the field `name` is given twice",
        "delete one of the two",
    ),
    Mistake("E0114", None, "", (1, 1), "", "the file is empty", "it must have `categories:` and `papers:`"),
    Mistake(
        "E0114",
        None,
        "# soon\n",
        (1, 1),
        "",
        "the file is empty",
        "it must have `categories:` and `papers:`",
    ),
    Mistake(
        "E0115",
        None,
        "%YAML 1.1\n---\n" + VALID,
        (1, 1),
        "%YAML 1.1",
        "YAML directives are not allowed",
        "a catalog begins with `categories:`",
    ),
    Mistake(
        "E0201",
        "tags: [training]",
        "tags: training",
        (34, 11),
        "training",
        "`tags` must be a list, not a text",
        "tags: [sampler, deterministic]",
    ),
    Mistake(
        "E0201",
        "tags: [training]",
        "tags: [[training]]",
        (34, 12),
        "[training]",
        "an item of `tags` must be a text, not a list",
        "tags: [sampler, deterministic]",
    ),
    Mistake(
        "E0201",
        "name: {ko: 빠른 샘플링, en: Fast sampling}",
        "name: 빠른 샘플링",
        (4, 31),
        "빠른 샘플링",
        "`name` must be a set of fields, not a text",
        "name: {ko: 빠른 샘플링, en: Fast sampling}",
    ),
    Mistake(
        "E0201",
        "  - id: review",
        "  - nothing\n  - id: review",
        (42, 5),
        "nothing",
        "an item of `papers` must be a set of fields, not a text",
        "- id: ddim",
    ),
    Mistake(
        "E0201",
        None,
        "- ddim\n",
        (1, 1),
        "- ddim",
        "the catalog must be a set of fields, not a list",
        "categories:",
    ),
    Mistake(
        "E0202",
        "    title: A review of diffusion\n",
        "",
        (42, 9),
        "review",
        "the entry `review` has no `title`",
        "title: Denoising Diffusion Implicit Models",
    ),
    Mistake(
        "E0202",
        "dataset: CIFAR-10, nfe: 10, source: Table 1",
        "dataset: CIFAR-10, nfe: 10",
        (23, 9),
        "{metric: fid, value: 13.36, dataset: CIFAR-10, nfe: 10}",
        "an item of `reported` has no `source`",
        "source: Table 1",
    ),
    Mistake(
        "E0203",
        'arxiv: "2010.02502"',
        "arxiv: 2010.02500",
        (15, 20),
        "2010.02500",
        "`arxiv` is a number, so YAML would read 2010.02500 as 2010.025",
        'arxiv: "2010.02500"',
    ),
    Mistake(
        "E0203",
        "name: DDIM",
        "name: no",
        (7, 11),
        "no",
        "`name` is true or false, so YAML would read no as false",
        'name: "no"',
    ),
    Mistake(
        "E0203",
        "tags: [training]",
        "tags: [1.10]",
        (34, 12),
        "1.10",
        "an item of `tags` is a number, so YAML would read 1.10 as 1.1",
        '"1.10"',
    ),
    Mistake(
        "E0203",
        'published: "2020-10-06"',
        "published: 2020-10-06",
        (11, 16),
        "2020-10-06",
        "`published` is a date, so YAML would read it as something else than text",
        'published: "2020-10-06"',
    ),
    Mistake(
        "E0203",
        'published: "2020-10-06"',
        "published: 2021",
        (11, 16),
        "2021",
        "`published` is a number, so YAML would read it as something else than text",
        'published: "2020-10-06"',
    ),
    Mistake(
        "E0203",
        "name: DDIM",
        "name: =",
        (7, 11),
        "=",
        "`name` is a special mark, so YAML would read it as something else than text",
        'name: "="',
    ),
    Mistake(
        "E0203",
        "venue: ICLR 2021",
        "venue: 2021-13-45",
        (12, 12),
        "2021-13-45",
        "`venue` is a date, so YAML would read it as something else than text",
        'venue: "2021-13-45"',
    ),
    Mistake(
        "E0204",
        "    venue: ICLR 2021",
        "    venu: ICLR 2021",
        (12, 5),
        "venu",
        "the entry `ddim` has no field called `venu`",
        "did you mean `venue`?",
    ),
    Mistake(
        "E0204",
        'links: {project: "',
        'links: {twitter: "',
        (48, 13),
        "twitter",
        "`links` has no field called `twitter`",
        "fields that may stand here: arxiv, code, code_unofficial, project, paper, slides, openreview, weights, "
        "demo, notebook, video, post",
    ),
    Mistake(
        "E0205",
        "value: 13.36",
        'value: "13.36"',
        (23, 30),
        '"13.36"',
        "`value` must be a number without quotes, not `13.36`",
        "value: 13.36",
    ),
    Mistake(
        "E0205",
        "nfe: 10,",
        "nfe: ten,",
        (23, 61),
        "ten",
        "`nfe` must be a whole number without quotes, not `ten`",
        "nfe: 100",
    ),
    Mistake(
        "E0205",
        "checked: false",
        "checked: no",
        (24, 91),
        "no",
        "`checked` must be true or false, not `no`",
        "checked: false",
    ),
    Mistake(
        "E0206",
        "kind: video",
        "kind: vidio",
        (44, 11),
        "vidio",
        "`vidio` is no `kind` that we know",
        "did you mean `video`?",
    ),
    Mistake(
        "E0206",
        "kind: video",
        "kind: zzz",
        (44, 11),
        "zzz",
        "`zzz` is no `kind` that we know",
        "one of method, survey, post, video, course, model-release, tool, dataset",
    ),
    Mistake(
        "E0207",
        "id: review",
        "id: re_View",
        (42, 9),
        "re_View",
        "`id` must be lower-case words joined by hyphens, not `re_View`",
        "id: re-view",
    ),
    Mistake(
        "E0207",
        "[training]",
        "[훈련]",
        (34, 12),
        "훈련",
        "an item of `tags` must be lower-case words joined by hyphens, not `훈련`",
        "tags: [sampler, deterministic]",
    ),
    Mistake(
        "E0207",
        "[training]",
        "[Noise Schedule]",
        (34, 12),
        "Noise Schedule",
        "an item of `tags` must be lower-case words joined by hyphens, not `Noise Schedule`",
        "noise-schedule",
    ),
    Mistake(
        "E0208",
        '"2010.02502"',
        '"2010.02502v4"',
        (15, 20),
        '"2010.02502v4"',
        "`2010.02502v4` is not an arXiv identifier",
        'arxiv: "2010.02502"',
    ),
    Mistake(
        "E0208",
        '"2010.02502"',
        '"2010.0250"',
        (15, 20),
        '"2010.0250"',
        "`2010.0250` is not an arXiv identifier",
        'arxiv: "2010.02502"',
    ),
    Mistake(
        "E0209",
        '"https://github.com/ermongroup/ddim"',
        '"javascript:alert(1)"',
        (15, 40),
        '"javascript:alert(1)"',
        "`code` must be a web address, not `javascript:alert(1)`",
        "copy the address from the browser: https://…",
    ),
    Mistake(
        "E0210",
        '"2020-10-06"',
        '"2020-02-30"',
        (11, 16),
        '"2020-02-30"',
        "`2020-02-30` is not a date of the calendar",
        'published: "2020-10-06"',
    ),
    Mistake(
        "E0210",
        '"2020-10-06"',
        "6 Oct 2020",
        (11, 16),
        "6 Oct 2020",
        "`6 Oct 2020` is not a date of the calendar",
        'published: "2020-10-06"',
    ),
    Mistake(
        "E0211",
        "    venue: ICLR 2021",
        "    venue:",
        (12, 5),
        "venue",
        "`venue` is empty",
        "or, where the field may be missing, delete it",
    ),
    Mistake(
        "E0211",
        "venue: ICLR 2021",
        "venue: null",
        (12, 12),
        "null",
        "`venue` is empty",
        "or, where the field may be missing, delete it",
    ),
    Mistake(
        "E0211",
        "venue: ICLR 2021",
        'venue: " "',
        (12, 12),
        '" "',
        "`venue` is empty",
        "or, where the field may be missing, delete it",
    ),
    Mistake(
        "E0212",
        "ko: 디퓨전을 한 시간에 훑는다.",
        "ko: TODO",
        (50, 11),
        "TODO",
        "`sentence.ko` is still a placeholder",
        "say in your own words what the work does; do not copy the abstract",
    ),
    Mistake(
        "E0212",
        "ko: 디퓨전을 한 시간에 훑는다.",
        "ko: …",
        (50, 11),
        "…",
        "`sentence.ko` is still a placeholder",
        "say in your own words what the work does; do not copy the abstract",
    ),
    Mistake(
        "E0213",
        "ko: 디퓨전을 한 시간에 훑는다.",
        "ko: Diffusion in an hour.",
        (50, 11),
        "Diffusion in an hour.",
        "`sentence.ko` holds no Hangul",
        "Korean belongs in `ko`, English in `en`",
    ),
    Mistake(
        "E0214",
        "en: Goes through diffusion in an hour.",
        "en: 디퓨전을 한 시간에 훑는다.",
        (51, 11),
        "디퓨전을 한 시간에 훑는다.",
        "`sentence.en` holds more Hangul than English",
        "Korean belongs in `ko`, English in `en`",
    ),
    Mistake(
        "E0215",
        "kind: video",
        "kind: method\n    authors: [A. Lecturer]",
        (42, 9),
        "review",
        "the entry `review` has no `claim`, which a `method` must have",
        "claim: {ko: 재현할 주장을 쓴다., en: The claim to reproduce.}",
    ),
    Mistake(
        "E0215",
        "kind: video",
        "kind: survey\n    authors: []",
        (45, 14),
        "[]",
        "the entry `review` has no `authors`, which a `survey` must have",
        "authors: [Jiaming Song, Chenlin Meng, Stefano Ermon]",
    ),
    Mistake(
        "E0216",
        "nfe: 10,",
        "nfe: 0,",
        (23, 61),
        "0",
        "`nfe` is out of range: `0`",
        "copy the number from its source",
    ),
    Mistake(
        "E0216",
        "value: 13.36",
        "value: 1e999",
        (23, 30),
        "1e999",
        "`value` is out of range: `inf`",
        "copy the number from its source",
    ),
    Mistake(
        "E0217",
        "en: Goes through diffusion in an hour.",
        "en: |\n        Goes through diffusion.",
        (51, 11),
        "|",
        "`sentence.en` has line breaks or superfluous spaces",
        "write it without `|` or `>`; a long text may go on, indented, on the next line",
    ),
    Mistake(
        "E0217",
        "venue: ICLR 2021",
        'venue: "ICLR  2021"',
        (12, 12),
        '"ICLR  2021"',
        "`venue` has line breaks or superfluous spaces",
        "write it without `|` or `>`; a long text may go on, indented, on the next line",
    ),
    Mistake(
        "E0218",
        "[Jonathan Ho, Ajay Jain, Pieter Abbeel]",
        "[Jonathan Ho, Ajay Jain, Ajay Jain]",
        (30, 39),
        "Ajay Jain",
        "an item of `authors` repeats `Ajay Jain`",
        "delete one of the two",
    ),
    Mistake(
        "E0301",
        "id: review",
        "id: ddpm",
        (42, 9),
        "ddpm",
        "there already is a paper with the id `ddpm`",
        "merge the two if they are one paper, otherwise choose another id",
    ),
    Mistake(
        "E0302",
        "papers:",
        "  - {id: foundations, name: {ko: 기초, en: Foundations}}\npapers:",
        (5, 10),
        "foundations",
        "there already is a category `foundations`",
        "delete one of the two",
    ),
    Mistake(
        "E0303",
        "category: fast-sampling",
        "category: fast-samplin",
        (13, 15),
        "fast-samplin",
        "there is no category `fast-samplin`",
        "did you mean `fast-sampling`?",
    ),
    Mistake(
        "E0303",
        "category: fast-sampling",
        "category: zzz",
        (13, 15),
        "zzz",
        "there is no category `zzz`",
        "the categories are fast-sampling, foundations",
    ),
    Mistake(
        "E0219",
        "venue: ICLR 2021",
        "venue: ICLR-21, Oral",
        (12, 12),
        "ICLR-21, Oral",
        "`venue` is not in its canonical spelling: `ICLR-21, Oral`",
        'as "NeurIPS 2021", "ICLR 2021 (Oral)" or "NeurIPS 2022 Workshop"; no venue where there is only arXiv',
    ),
    Mistake(
        "E0309",
        "papers:\n",
        f"tags: [{SAMPLER}, {TRAINING}, {{id: deterministics, name: {{ko: 결정론, en: Deterministic}}}}]\npapers:\n",
        (15, 21),
        "deterministic",
        "there is no tag `deterministic`",
        "did you mean `deterministics`?",
    ),
    Mistake(
        "E0310",
        "papers:\n",
        f"tags: [{SAMPLER}, {SAMPLER}, {TRAINING}, {DETERMINISTIC}]\npapers:\n",
        (5, 58),
        "sampler",
        "there already is a tag `sampler`",
        "delete one of the two",
    ),
    Mistake(
        "E0212",
        "category: fast-sampling\n",
        "category: TODO\n",
        (13, 15),
        "TODO",
        "`category` is still a placeholder",
        "choose one of the `categories` at the top",
    ),
    Mistake(
        "E0220",
        '"2022-11-01"',
        '"2999-11-01"',
        (46, 16),
        '"2999-11-01"',
        "`2999-11-01` lies in the future",
        "write the day of the first public version",
    ),
    Mistake(  # sent in last of all in October 2020
        "E0311",
        '"2020-10-06"',
        '"2020-11-01"',
        (11, 16),
        '"2020-11-01"',
        "`2020-11-01` does not fit arXiv `2010.02502`, which is of 2020-10",
        "copy the date of v1 from the abstract's page; if it came out elsewhere before, add that address to links",
    ),
    Mistake(
        "E0311",
        '"2020-10-06"',
        '"2020-08-31"',
        (11, 16),
        '"2020-08-31"',
        "`2020-08-31` does not fit arXiv `2010.02502`, which is of 2020-10",
        "copy the date of v1 from the abstract's page; if it came out elsewhere before, add that address to links",
    ),
    Mistake(
        "E0312",
        "title: Denoising Diffusion Probabilistic Models",
        "title: Denoising diffusion - implicit models.",
        (29, 12),
        "Denoising diffusion - implicit models.",
        "the title is that of `ddim`",
        "merge the two if they are one work, otherwise correct the title",
    ),
    Mistake(
        "E0313",
        None,
        VALID.replace("id: ddim", "id: ddp-m").replace("[Jiaming Song, ", "[J. Ho, "),
        (26, 9),
        "ddpm",
        "its BibTeX key `ho2020ddpm` is also that of `ddp-m`",
        "choose an id that differs in more than its hyphens",
    ),
    Mistake(
        "E0304",
        "[ddpm]",
        "[ddpn]",
        (25, 17),
        "ddpn",
        "builds_on: there is no paper `ddpn`",
        "did you mean `ddpm`?",
    ),
    Mistake(
        "E0304",
        "[ddpm]",
        "[zzz]",
        (25, 17),
        "zzz",
        "builds_on: there is no paper `zzz`",
        "add an entry for that paper first, or delete this id",
    ),
    Mistake(
        "E0305",
        "[ddpm]",
        "[ddpm, ddim]",
        (25, 23),
        "ddim",
        "builds_on: `ddim` names itself",
        "delete this id",
    ),
    Mistake(
        "E0306",
        "id: review",
        "id: ddio",
        (42, 9),
        "ddio",
        "out of order: `ddio` stands after `ddpm`",
        "move this entry up, before `ddpm`",
    ),
    Mistake(
        "E0307",
        "2006.11239",
        "2010.02502",
        (35, 20),
        '"2010.02502"',
        "arXiv `2010.02502` already belongs to `ddim`",
        "merge the two if they are one paper, otherwise correct the identifier",
    ),
    Mistake(
        "E0308",
        "tags: [training]",
        "builds_on: [ddim]",
        (34, 17),
        "ddim",
        "builds_on goes in a circle: `ddim → ddpm → ddim`",
        "the later paper builds on the earlier one",
    ),
]


def written(mistake: Mistake) -> str:
    if mistake.old is None:
        return mistake.new
    assert VALID.count(mistake.old) == 1, f"{mistake.old!r} must stand in the valid catalog once"
    return VALID.replace(mistake.old, mistake.new)


@pytest.mark.parametrize("mistake", MISTAKES, ids=lambda mistake: f"{mistake.code}-{mistake.message[:40]}")
def test_a_mistake_is_one_finding_at_its_place(mistake: Mistake) -> None:
    text = written(mistake)
    reading = read_data("catalog.yaml", text.encode())
    assert [finding.code for finding in reading.findings] == [mistake.code]
    assert reading.catalog is None
    (finding,) = reading.findings
    assert (finding.line, finding.column) == mistake.place
    assert finding.end_line == finding.line
    line = reading.source.lines[finding.line - 1]
    assert line[finding.column - 1 : finding.end_column - 1] == mistake.marked
    assert finding.message("en") == mistake.message
    assert finding.help("en") == mistake.help


@pytest.mark.parametrize("mistake", MISTAKES, ids=lambda mistake: f"{mistake.code}-{mistake.message[:40]}")
def test_what_is_said_is_said_in_korean_too(mistake: Mistake) -> None:
    (finding,) = read_data("catalog.yaml", written(mistake).encode()).findings
    assert re.search("[가-힣]", finding.message("ko"))
    assert bool(finding.label("ko")) == bool(finding.label("en"))
    # A line to copy is the same in both languages; a sentence is translated.
    assert finding.help("ko") == finding.help("en") or re.search("[가-힣]", finding.help("ko"))
    for said in (finding.message("ko"), finding.label("ko"), finding.help("ko")):
        assert not re.search(r"\{[a-z]+\}", said)


def test_every_code_has_a_mistake() -> None:
    of_files = {"E0101", "E0102", "E0314", "E0315", "E0316"}  # below
    assert {mistake.code for mistake in MISTAKES} | of_files == set(CODES)


@pytest.mark.parametrize("day", ["2020-09-01", "2020-10-31"])
def test_identifiers_come_up_to_a_month_after_the_paper(day: str) -> None:
    assert read_data("catalog.yaml", VALID.replace("2020-10-06", day).encode()).findings == []


@pytest.mark.parametrize("place", ["openreview", "paper", "project", "post"])
def test_a_work_may_have_come_out_elsewhere_long_before_arxiv(place: str) -> None:
    text = VALID.replace("2020-10-06", "2019-01-01")
    text = text.replace('code: "https://github.com/ermongroup/ddim"', f'{place}: "https://example.org/"')
    assert read_data("catalog.yaml", text.encode()).findings == []


def test_a_video_may_bear_the_title_of_its_paper() -> None:
    text = VALID.replace("A review of diffusion", "Denoising Diffusion Implicit Models")
    assert read_data("catalog.yaml", text.encode()).findings == []


TEST = """    test:
      ko: 열 스텝에서 잰다.
      en: Measured at ten steps.
"""


def with_runners(folder: Path, **docstrings: str) -> list[tuple[str, int, str, str]]:
    """What is found in the valid catalog beside runners: module="docstring", __ for the folder's slash."""
    for name, docstring in docstrings.items():
        path = folder / (name.replace("__", "/") + ".py")
        path.parent.mkdir(exist_ok=True)
        path.write_text(f'"""{docstring}"""\nraise SystemExit("never run")\n')
    text = VALID.replace("    reported:\n", TEST + "    reported:\n", 1)
    findings = read_data("catalog.yaml", text.encode(), runners=folder).findings
    return [(each.code, each.line, each.message("en"), each.help("en")) for each in findings]


def test_a_runner_that_agrees_is_not_mentioned(tmp_path: Path) -> None:
    (tmp_path / "fast_sampling").mkdir()
    (tmp_path / "fast_sampling" / "__init__.py").touch()
    assert with_runners(tmp_path, fast_sampling__ddim="DDIM. arXiv:2010.02502, after 2006.11239") == []
    assert with_runners(tmp_path, fast_sampling__ddim="DDIM, with no identifier") == []


def test_a_runner_needs_the_claim_and_the_test_of_its_entry(tmp_path: Path) -> None:
    found = with_runners(tmp_path, foundations__ddpm="arXiv:2006.11239", foundations__review="A video.")
    both = "write in both languages what the runner re-measures (claim), and how (test)"
    assert found == [
        ("E0314", 29, "`ddpm` has a runner, `runners/foundations/ddpm.py`, and no `test`", both),
        ("E0314", 45, "`review` has a runner, `runners/foundations/review.py`, and no `claim`", both),
        ("E0314", 45, "`review` has a runner, `runners/foundations/review.py`, and no `test`", both),
    ]


def test_a_runner_belongs_to_an_entry_and_stands_in_its_category(tmp_path: Path) -> None:
    found = with_runners(tmp_path, foundations__ddim="Elsewhere.", foundations__dddpm="?", foundations__x="?")
    assert [(code, message, help) for code, _, message, help in found] == [
        ("E0315", "`runners/foundations/dddpm.py` is the runner of no entry", "did you mean `ddpm`, `ddim`?"),
        (
            "E0315",
            "`runners/foundations/ddim.py` is the runner of no entry",
            "move it to runners/fast_sampling/ddim.py",
        ),
        ("E0315", "`runners/foundations/x.py` is the runner of no entry", "add an entry for its paper first"),
    ]


def test_a_runner_cites_the_paper_of_its_entry(tmp_path: Path) -> None:
    ((code, line, message, _),) = with_runners(tmp_path, fast_sampling__ddim="DDIM. arXiv:2010.02520")
    assert (code, line) == ("E0316", 15)
    assert message == "arXiv `2010.02502`, but the runner `runners/fast_sampling/ddim.py` cites `2010.02520`"


def test_a_runner_that_is_no_python_says_nothing_here(tmp_path: Path) -> None:
    (tmp_path / "fast_sampling").mkdir()
    (tmp_path / "fast_sampling" / "ddim.py").write_bytes(b"\0def (")
    assert with_runners(tmp_path) == []


def test_a_file_that_is_too_large_is_not_parsed() -> None:
    (finding,) = read_data("catalog.yaml", b"#" * (SIZE_LIMIT + 1)).findings
    assert (finding.code, finding.span) == ("E0101", (1, 1, 1, 1))
    assert finding.message("en") == "the file is larger than 32 MiB"


def test_a_byte_that_is_not_utf8_is_found_by_line_and_character() -> None:
    data = "categories:\n  # 한글 ".encode() + "기초".encode("cp949") + b"\n"
    (finding,) = read_data("catalog.yaml", data).findings
    assert (finding.code, finding.line, finding.column) == ("E0102", 2, 8)
    assert finding.message("en") == "the byte 0xB1 is not UTF-8"
    assert finding.help("en") == "save the file as UTF-8, for example with iconv -f CP949 -t UTF-8"


def test_all_findings_come_at_once_in_the_order_of_the_file() -> None:
    text = VALID.replace("name: DDIM", "name: no").replace("kind: video", "kind: vidio")
    text = text.replace('arxiv: "2006.11239"', "arxiv: 2006.11239").replace("[ddpm]", "[ddpm, nobody]")
    text = text.replace("Implicit", "\u200bImplicit").replace("en: Goes", "enn: Goes")
    found = [(finding.line, finding.code) for finding in read_data("catalog.yaml", text.encode()).findings]
    assert found == [
        (7, "E0203"),
        (9, "E0105"),
        (25, "E0304"),
        (35, "E0203"),
        (44, "E0206"),
        (50, "E0202"),
        (51, "E0204"),
    ]


def test_one_wrong_value_hides_no_other_in_its_entry() -> None:
    text = VALID.replace('    published: "2020-10-06"', "    published: soon").replace("[ddpm]", "[ddim]")
    codes = [finding.code for finding in read_data("catalog.yaml", text.encode()).findings]
    assert codes == ["E0210", "E0305"]


def test_an_unreadable_id_does_not_make_references_to_it_unknown() -> None:
    text = VALID.replace("id: ddpm", "id: 2006")
    codes = [finding.code for finding in read_data("catalog.yaml", text.encode()).findings]
    assert codes == ["E0203"]
