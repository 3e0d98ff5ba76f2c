"""`denoised fetch`: download the published weights that a paper's own scale needs."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from denoised.catalog import load
from denoised.command_line import note
from denoised.errors import DenoisedError
from denoised.language import say
from denoised.project import CATALOG
from denoised.registry import load_runner
from denoised.zoo.hub import as_yaml, fetch, fetched, known_weights


def needed(defaults: dict[str, object]) -> list[str]:
    """The names of the weights that a scale of a runner loads, of those that can be fetched."""
    known = known_weights()
    return [str(defaults[key]) for key in ("model", "clip") if defaults.get(key) in known]


def fetched_overrides(root: Path, defaults: dict[str, object], overrides: Sequence[str]) -> list[str]:
    """Settings that name the folders of what was fetched, where the user has named none."""
    given = {each.partition("=")[0] for each in overrides}
    return [
        f"{key}={folder}"
        for key in ("model", "clip")
        if key not in given and (folder := fetched(root, str(defaults.get(key)))) is not None
    ]


def fetch_command(root: Path, paper_id: str, words: Sequence[str], *, pin: bool) -> None:
    """Download what `denoised run ID scale=paper` needs, and say where it lies and under which pin."""
    if unknown := [word for word in words if word != "scale=paper"]:
        raise DenoisedError(
            say(
                ko=f"`{unknown[0]}`: fetch는 scale=paper만 안다",
                en=f"`{unknown[0]}`: fetch knows scale=paper only",
            ),
            help=f"denoised fetch {paper_id} scale=paper",
        )
    catalog = load(root / CATALOG)
    paper = catalog.paper(paper_id)
    defaults = load_runner(root, catalog, paper).SCALES.get("paper", {})
    if not (names := needed(defaults)):
        note(say(ko=f"{paper.id}: 받을 가중치가 없다", en=f"{paper.id} needs no weights that can be fetched"))
        return
    for name in names:
        weights = known_weights()[name]
        folder, held = fetch(
            root,
            name,
            weights,
            pin=pin,
            report=lambda path, size: note(f"  {path}" + (f"  {size:,} B" if size else "")),
        )
        total = sum(each.bytes or 0 for each in held.files)
        note(f"{name}: {folder} ({total / 1e6:.1f} MB, {held.repository}@{(held.revision or '')[:12]})")
        if not weights.pinned:
            note(
                say(
                    ko="여기서 고정했다. 모두가 같은 것을 쓰게 하려면 denoised/conf/weights.yaml에 이 줄들을 넣는다:",
                    en="pinned here; for everybody to use the same, put these lines into denoised/conf/weights.yaml:",
                )
            )
            print(as_yaml(name, held))
    note(
        say(ko=f"다음: denoised run {paper.id} scale=paper", en=f"next: denoised run {paper.id} scale=paper")
    )
