"""The page of comparisons: what may stand in one plot, what is left out and why, and the table of speeds."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from denoised.lab.record import write_record
from denoised.language import LANGUAGES
from denoised.site import generate
from denoised.site.compare import LINES, comparison_views, sort_out
from denoised.site.library import gather
from denoised.site.sampling import BENCHMARK, read_sampling, sampling_view
from denoised.site.words import load_words
from tests.site.samples import ROOT, arm, ddim_arms, png, record_of

PICTURES = {"sample.png": png(8, 8, 1)}
WORDS = load_words(ROOT / "site" / "strings.yaml")
Record = dict[str, Any]


def heun_arms() -> list[dict[str, Any]]:
    return [
        arm("heun", {"nfe": nfe}, [base, base + 1, base - 1], nfe) for nfe, base in ((9, 30.0), (19, 14.0))
    ]


def publish(
    root: Path, id: str, arms: list[dict[str, Any]], change: Callable[[Record], object] = lambda _: None
) -> None:
    record = record_of(root, id, arms, [])
    change(record)
    write_record(root / "papers" / id / "results", "mini", record, PICTURES)


def shown(root: Path) -> dict[str, Any]:
    return comparison_views(gather(root).items, WORDS, "en")


def names(chart: dict[str, Any]) -> list[str]:
    """The lines of a plot, by its legend."""
    return re.findall(r'class="dn-name"[^>]*>([^<]*)<', str(chart["svg"]))


def test_samplers_of_one_checkpoint_share_a_plot_and_a_table(project: Path) -> None:
    publish(project, "ddim", ddim_arms())
    publish(project, "edm", heun_arms())
    view = shown(project)
    (group,) = view["groups"]
    assert (group["metric"], group["model"], group["n"]) == ("fid[effnet-lite0@64]", "emoji-pixel", 256)
    assert [names(chart) for chart in group["charts"]] == [["DDIM", "DDIM: ddpm", "EDM: heun"]]
    assert [float(row["nfe"]) for row in group["rows"]] == sorted(float(row["nfe"]) for row in group["rows"])
    assert len(group["rows"]) == 10
    assert view["left_out"] == []


def _weights(record: Record) -> None:
    record["inputs"][0]["sha256"] = "11" * 32


def _another_file(record: Record) -> None:
    record["inputs"].append({"path": "zoo/emoji-pixel/scheduler.json", "sha256": "22" * 32, "bytes": 9})


def _extractor_weights(record: Record) -> None:
    record["inputs"].append(
        {"path": "zoo/effnet-lite0@64/model.safetensors", "sha256": "33" * 32, "bytes": 9}
    )


def _metric(**values: Any) -> Callable[[Record], None]:
    def change(record: Record) -> None:
        for each in record["arms"]:
            each["metrics"][0] |= values

    return change


@pytest.mark.parametrize(
    "change",
    [
        _weights,
        _another_file,
        _extractor_weights,
        _metric(n=512),
        _metric(extractor="effnet-lite0, another layer"),
        _metric(implementation={"name": "denoised.metrics", "version": "2"}),
        _metric(reference={"name": "emoji-pixel", "n": 2048, "sha256": "cd" * 32}),
    ],
    ids=["weights", "a file", "extractor's weights", "n", "extractor", "version", "reference"],
)
def test_what_differs_in_more_than_the_sampler_never_shares_a_plot(
    project: Path, change: Callable[[Record], None]
) -> None:
    publish(project, "ddim", ddim_arms())
    publish(project, "edm", heun_arms(), change)
    groups, left_out = sort_out(gather(project).items)
    assert sorted("+".join({each.item.paper.id for each in members}) for members in groups.values()) == [
        "ddim",
        "edm",
    ]
    assert left_out == []


def _trained(record: Record) -> None:
    for each in record["arms"]:
        each["cost"]["parameters_trained"] = 1000


def _no_budget(record: Record) -> None:
    record["arms"] = record["arms"][:1]
    record["arms"][0]["settings"] = {}


def _no_checkpoint(record: Record) -> None:
    record["inputs"] = []


def _no_model(record: Record) -> None:
    record["config"] = {"method": {}}


@pytest.mark.parametrize(
    ("id", "change", "reason"),
    [
        ("ddpm", lambda record: None, "tag"),
        ("edm", _trained, "trained"),
        ("edm", _no_budget, "budget"),
        ("edm", _no_checkpoint, "checkpoint"),
        ("edm", _no_model, "checkpoint"),
    ],
)
def test_what_cannot_be_compared_is_left_out_with_the_reason(
    project: Path, id: str, change: Callable[[Record], None], reason: str
) -> None:
    publish(project, "ddim", ddim_arms())
    publish(project, id, heun_arms(), change)
    view = shown(project)
    assert [(each["id"], each["reason"]) for each in view["left_out"]] == [(id, reason)]
    assert [len(group["rows"]) for group in view["groups"]] == [8]
    assert all(WORDS(language, f"compare.left_out.{reason}") for language in LANGUAGES)


def test_a_baseline_of_several_records_is_drawn_once_where_its_numbers_are_the_same(project: Path) -> None:
    ddim = [each for each in ddim_arms() if each["name"] == "ddim"]
    other = [arm("ddpm", {"steps": 10}, [50.0, 51.0, 52.0], 10)]
    publish(project, "ddim", ddim_arms())
    publish(project, "edm", [*heun_arms(), *ddim[1:3], *other])
    (group,) = shown(project)["groups"]
    assert sorted(names(group["charts"][0])) == ["DDIM", "DDIM: ddpm", "EDM: ddpm", "EDM: heun"]
    papers = {
        row["at"]: [each["id"] for each in row["papers"]] for row in group["rows"] if row["arm"] == "ddim"
    }
    assert papers == {
        "steps = 5": ["ddim"],
        "steps = 10": ["ddim", "edm"],
        "steps = 20": ["ddim", "edm"],
        "steps = 50": ["ddim"],
    }


def test_a_setting_beside_the_budget_makes_a_line_of_its_own(project: Path) -> None:
    arms = [arm("heun", {"nfe": nfe, "rho": rho}, [9.0 + rho] * 3, nfe) for nfe in (9, 19) for rho in (1, 7)]
    publish(project, "edm", arms)
    (group,) = shown(project)["groups"]
    assert names(group["charts"][0]) == ["EDM: heun (rho = 1)", "EDM: heun (rho = 7)"]


def test_times_of_different_machines_never_share_a_plot(project: Path) -> None:
    def elsewhere(record: Record) -> None:
        record["environment"]["cpu"] = "Another CPU"

    publish(project, "ddim", ddim_arms())
    publish(project, "edm", heun_arms(), elsewhere)
    (group,) = shown(project)["groups"]
    assert len(group["charts"]) == 1
    seconds = {machine["cpu"]: names(machine["charts"][0]) for machine in group["machines"]}
    assert seconds == {"Another CPU": ["EDM: heun"], "Some CPU @ 2.80GHz": ["DDIM", "DDIM: ddpm"]}


def test_many_lines_are_divided_among_plots_with_ddim_in_each(project: Path) -> None:
    publish(project, "ddim", ddim_arms())
    publish(
        project, "edm", [arm(f"order {k}", {"nfe": n}, [k + 1.0] * 3, n) for k in range(9) for n in (9, 19)]
    )
    (group,) = shown(project)["groups"]
    drawn = [names(chart) for chart in group["charts"]]
    assert [len(each) for each in drawn] == [6, 6]
    assert all(each[0] == "DDIM" and len(each) <= LINES for each in drawn)
    assert len({name for each in drawn for name in each}) == 11
    ids = re.findall(r'<title id="([^"]+)"', " ".join(str(chart["svg"]) for chart in group["charts"]))
    assert len(ids) == len(set(ids))


def test_the_page_links_the_papers_and_says_what_is_of_this_machine(project: Path, tmp_path: Path) -> None:
    publish(project, "ddim", ddim_arms())
    publish(project, "ddpm", heun_arms())
    record = record_of(project, "edm", heun_arms(), [])
    write_record(project / "outputs" / "edm", "mini", record, PICTURES)
    generate(project, tmp_path / "pages", records=project / "outputs")
    for language, local in zip(
        LANGUAGES, ("이 컴퓨터의 결과, 공개 전", "this machine, not published"), strict=True
    ):
        page = (tmp_path / "pages" / language / "compare" / "index.md").read_text()
        assert '<a href="../papers/ddim/">' in page
        assert f"DDPM</a>: {WORDS(language, 'compare.left_out.tag')}" in page
        assert page.count(local) == 2, "both points of the local record"


def test_the_speed_of_sampling_is_shown_where_it_was_measured(project: Path, tmp_path: Path) -> None:
    path = project / BENCHMARK
    path.unlink(missing_ok=True)
    assert read_sampling(project) is None
    environment = {"torch": "2", "diffusers": "0.42", "cpu": "a CPU", "threads": 1, "steps": 20, "batch": 16}
    rows = [
        {"name": "ddim", "ours": 1.5, "theirs": 3.0, "difference": 1e-6, "nfe": 20},
        {"name": "scheduler-step", "ours": 5e-5, "theirs": 2e-4, "difference": 0.0, "nfe": None},
    ]
    path.write_text(json.dumps({"environment": environment, "rows": rows}))
    sampling = read_sampling(project)
    assert sampling is not None
    assert sampling_view(sampling)["rows"] == [
        {
            "name": "ddim",
            "ours": "1.5 s",
            "theirs": "3 s",
            "faster": "2.00×",
            "difference": "1e-06",
            "nfe": "20",
        },
        {
            "name": "scheduler-step",
            "ours": "50 µs",
            "theirs": "200 µs",
            "faster": "4.00×",
            "difference": "0",
            "nfe": "–",
        },
    ]
    generate(project, tmp_path / "pages")
    for language in LANGUAGES:
        page = (tmp_path / "pages" / language / "compare" / "index.md").read_text()
        assert '<td class="dn-num">2.00×</td>' in page and "{#speed}" in page


def test_there_are_words_for_every_row_that_is_measured() -> None:
    source = (ROOT / "benchmarks" / "sampling.py").read_text()
    measured = set(re.findall(r'(?:against|against_pipeline|Row)\("([a-z0-9-]+)"', source))
    assert len(measured) == 8
    assert {f"sampling.{name}" for name in measured} <= WORDS.keys
