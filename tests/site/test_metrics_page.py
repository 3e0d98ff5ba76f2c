"""The page of metrics: what it reads out of the source is what the functions carry, and nothing is left out."""

from __future__ import annotations

import importlib
import json
import pkgutil
from dataclasses import asdict
from pathlib import Path

import pytest

import denoised.metrics
from denoised.errors import DenoisedError
from denoised.metrics.facts import METRICS
from denoised.site.metrics import (
    BENCHMARK,
    Benchmark,
    benchmark_view,
    metric_rows,
    read_benchmark,
    read_facts,
)
from denoised.site.words import load_words

ROOT = Path(__file__).parents[2]


def test_the_facts_read_from_the_source_are_those_that_the_functions_carry() -> None:
    for module in pkgutil.iter_modules(denoised.metrics.__path__):
        importlib.import_module(f"denoised.metrics.{module.name}")
    read = {facts.name: facts for facts in read_facts()}
    assert read.keys() == METRICS.keys()
    for name, facts in METRICS.items():
        assert asdict(facts).items() <= vars(read[name]).items()
        *path, function = read[name].function.split(".")
        owner = denoised
        for part in path[1:]:
            owner = getattr(owner, part)
        assert getattr(owner, function).facts is facts


@pytest.mark.parametrize("language", ["en", "ko"])
def test_every_metric_is_explained_in_both_languages(language: str) -> None:
    text = (ROOT / "site" / "pages" / f"metrics.{language}.md").read_text(encoding="utf-8")
    headings = [line for line in text.splitlines() if line.startswith("### ")]
    named = {name for line in headings for name in line.split("`")[1::2]}
    assert named == {facts.name for facts in read_facts()}


def test_bounds_are_shown_with_infinities() -> None:
    rows = {row["name"]: row["bounds"] for row in metric_rows(read_facts())}
    assert rows["fid"] == "0 … ∞" and rows["ssim"] == "−1 … 1" and rows["kid"] == "−∞ … ∞"


def test_functions_are_shown_below_their_package() -> None:
    rows = {row["name"]: row["function"] for row in metric_rows(read_facts())}
    assert rows["fid"] == "distances.frechet_distance" and rows["clip-score"] == "clip.Clip.similarity"


def test_the_shipped_benchmark_is_shown_with_words_for_every_row() -> None:
    benchmark = read_benchmark(ROOT)
    assert benchmark is not None
    view = benchmark_view(benchmark)
    assert {f"metrics.speed.{row['name']}" for row in view["rows"]} <= load_words(
        ROOT / "site" / "strings.yaml"
    ).keys


def test_a_benchmark_is_shown_as_seconds_and_ratios(tmp_path: Path) -> None:
    assert read_benchmark(tmp_path) is None
    path = tmp_path / BENCHMARK
    path.parent.mkdir(parents=True)
    environment = {"torch": "2", "torchmetrics": "1", "cpu": "a CPU", "threads": 1}
    row = {"name": "kernel", "ours": 0.25, "theirs": 3.0, "difference": 2e-9}
    path.write_text(json.dumps({"environment": environment, "rows": [row]}))
    benchmark = read_benchmark(tmp_path)
    assert isinstance(benchmark, Benchmark)
    assert benchmark_view(benchmark)["rows"] == [
        {"name": "kernel", "ours": "0.25", "theirs": "3", "faster": "12×", "difference": "2e-09"}
    ]
    path.write_text(json.dumps({"environment": environment, "rows": [row | {"ours": "fast"}]}))
    with pytest.raises(DenoisedError, match=r"metrics\.json"):
        read_benchmark(tmp_path)
