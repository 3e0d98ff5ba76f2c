"""One reproduction, from settings to record: every seed, then the verdict over the seeds.

`run` drives a runner's `reproduce` once for each seed, aggregates the arms, decides the claims and returns
what `denoised.lab.record.write_record` writes.
"""

from __future__ import annotations

import hashlib
import re
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from statistics import fmean
from types import ModuleType
from typing import Any

import torch
from PIL import Image
from torch import Tensor

from denoised.catalog.model import Paper
from denoised.environment import describe_code, describe_environment
from denoised.errors import DenoisedError, Exit
from denoised.files import sha256_of
from denoised.lab.inputs import Inputs
from denoised.lab.lab import Arm, Claim, Lab
from denoised.lab.record import canonical, entry_sha256
from denoised.lab.settings import Settings
from denoised.lab.verdicts import interval, verdict
from denoised.language import Phrase, say
from denoised.pictures import grid, png
from denoised.worlds.preview import points_over
from denoised.worlds.toys import Density

GRID_PICTURES, GRID_COLUMNS = 24, 8
PLOTTED_POINTS, PLOT_SIZE = 1_000, 400  # size in pixels a side


@dataclass
class Run:
    """A finished run: the record's content and the bytes of its pictures, by name."""

    content: dict[str, Any]
    pictures: dict[str, bytes]


def run(
    root: Path,
    paper: Paper,
    runner: ModuleType,
    settings: Settings,
    config: Any,
    *,
    rehearse: bool = False,
    report: Callable[[int, str], None],
    advance: Callable[[], None],
) -> Run:
    """Reproduce one paper.

    `report(seed, what)` is told what begins, `advance()` each time a network was called. Raises
    DenoisedError: NO_GPU where `device` asks for one that is not there, FAILED where sampling diverges,
    INTEGRITY for damaged checkpoints, RESOURCES when the memory is not enough.
    """
    if settings.device.startswith("cuda") and not torch.cuda.is_available():
        raise DenoisedError(
            say(
                ko=f"device={settings.device}인데 이 기계에는 CUDA GPU가 보이지 않는다",
                en=f"device={settings.device}, but this machine shows no CUDA GPU",
            ),
            help=say(
                ko="GPU가 있는 기계에서 실행하거나, --rehearse로 경로만 시험한다",
                en="run it on a machine with a GPU, or try the path alone with --rehearse",
            ),
            code=Exit.NO_GPU,
        )
    torch.set_num_threads(settings.threads)
    started, clock = datetime.now(UTC), time.perf_counter()
    code = describe_code(root, Path(str(runner.__file__)))  # now: the checkout may be edited during the run
    with _out_of_memory_is_told(), _rehearsal(settings, rehearse):
        labs, inputs = _run_seeds(root, runner, settings, config, report, advance)

    entry = entry_sha256(paper)
    plain = plain_config(settings, config)
    pictures, listed = _grids(labs[0].arms)
    content = {
        "key": run_key(entry, code["runner_sha256"], plain, [i["sha256"] for i in inputs]),
        "paper": {"id": paper.id, "entry_sha256": entry},
        "seeds": {"asked": settings.seed_list, "finished": [lab.seed for lab in labs]},
        "config": plain,
        "arms": [_aggregate(labs, i) for i in range(len(labs[0].arms))],
        "claims": [_decide(claim, labs) for claim in labs[0].claims],
        "environment": describe_environment(settings.threads),
        "code": code,
        "inputs": inputs,
        "pictures": listed,
        "time": {
            "started": started.isoformat(timespec="seconds"),
            "finished": datetime.now(UTC).isoformat(timespec="seconds"),
            "seconds": round(time.perf_counter() - clock, 1),
        },
    }
    return Run(content, pictures)


def plain_config(settings: Settings, config: Any) -> dict[str, Any]:
    """The record's `config`: the settings and the runner's own."""
    return {"settings": _public(settings), "method": asdict(config)}


def run_key(entry: str, runner: str, config: dict[str, Any], inputs: Sequence[str]) -> str:
    """The record's `key`: runs of one key measure the same.

    `entry`, `runner` and `inputs` are SHA-256 hashes: of the catalog entry, the runner's file, and every file that
    was read, in order. `config`: see `plain_config`.
    """
    return hashlib.sha256(canonical([entry, runner, config, list(inputs)])).hexdigest()


def _run_seeds(
    root: Path,
    runner: ModuleType,
    settings: Settings,
    config: Any,
    report: Callable[[int, str], None],
    advance: Callable[[], None],
) -> tuple[list[Lab], list[dict[str, Any]]]:
    """The lab of every seed after the runner filled it, and the files that were read."""
    inputs = Inputs(root, settings)
    labs = []
    for seed in settings.seed_list:
        lab = Lab(
            seed,
            settings,
            inputs,
            report=lambda what, seed=seed: report(seed, what),  # type: ignore[misc]
            advance=advance,
        )
        runner.reproduce(lab, config)
        labs.append(lab)
    return labs, [_input(root, file) for file in inputs.files]


def _public(settings: Settings) -> dict[str, Any]:
    """The settings for the record, without the user's own folders: what was read is named by its hash."""
    plain = asdict(settings)
    for part in ("model", "data", "clip"):
        folder = (plain[part] or {}).get("folder")
        if folder is not None and Path(folder).is_absolute():
            plain[part]["folder"] = "/".join(Path(folder).parts[-2:])
    extractor = plain.pop("extractor")
    if (
        extractor is not None
    ):  # records from before it could be chosen say nothing of it, and stay what they are
        plain["extractor"] = extractor | {"file": extractor["file"] and Path(extractor["file"]).name}
    return plain


def _input(root: Path, file: Path) -> dict[str, Any]:
    # A file outside the checkout goes by its last two names: the rest is the user's own business.
    inside = file.is_relative_to(root)
    name = file.relative_to(root).as_posix() if inside else "/".join(file.parts[-2:])
    return {"path": name, "sha256": sha256_of(file), "bytes": file.stat().st_size}


def _aggregate(labs: list[Lab], i: int) -> dict[str, Any]:
    """Arm i over all seeds, as the record states it."""
    arms = [lab.arms[i] for lab in labs]
    first = arms[0]
    seconds = fmean(arm.seconds for arm in arms)
    return {
        "name": first.name,
        "settings": first.settings,
        "metrics": [_metric(name, labs, i) for name in first.metrics],
        "cost": {
            "network_calls": fmean(arm.calls for arm in arms),
            "network_samples": fmean(arm.samples for arm in arms),
            "seconds": round(seconds, 3),
            "images_per_second": None if first.images is None else round(len(first.images) / seconds, 3),
            "peak_memory_mb": round(max(arm.peak_memory_mb for arm in arms), 1),
            "parameters_trained": first.parameters_trained,
        },
    }


def _metric(name: str, labs: list[Lab], i: int) -> dict[str, Any]:
    measured = [lab.arms[i].metrics[name] for lab in labs]
    first, values = measured[0], [each.value for each in measured]
    reference = first.reference
    return {
        "name": name,
        "value": fmean(values),
        "n": min(each.n for each in measured),
        "per_seed": [{"seed": lab.seed, "value": v} for lab, v in zip(labs, values, strict=True)],
        "interval": interval(values) or first.interval,
        "interval_over": "seeds" if len(values) > 1 else "samples" if first.interval else None,
        "higher_is_better": first.facts.better == "higher",
        "bounds": (first.facts.low, first.facts.high),
        "implementation": {"name": first.implementation, "version": first.facts.version},
        "extractor": first.extractor,
        "reference": reference
        and {
            "name": reference.name,
            "n": len(reference.features),
            "sha256": reference.sha256,
            **({} if reference.moments is None else {"moments_sha256": reference.moments_sha256}),
        },
    }


def _decide(claim: Claim, labs: list[Lab]) -> dict[str, Any]:
    """The claim with its verdict: paired differences over the seeds and their interval."""
    differences = [
        _measured(lab.arms, claim.arm, claim) - _measured(lab.arms, claim.than, claim) for lab in labs
    ]
    bounds = interval(differences)
    return {
        "metric": claim.metric,
        "arm": claim.arm,
        "relation": claim.relation,
        "than": claim.than,
        "at": claim.at,
        "margin": claim.margin,
        "effect": fmean(differences),
        "interval": bounds,
        "per_seed": [{"seed": lab.seed, "value": d} for lab, d in zip(labs, differences, strict=True)],
        "verdict": verdict(claim.relation, bounds, claim.margin),
    }


def _measured(arms: list[Arm], name: str, claim: Claim) -> float:
    found = [a for a in arms if a.name == name and claim.at.items() <= a.settings.items()]
    if len(found) != 1:
        raise ValueError(f"the claim needs exactly one arm {name!r} at {claim.at}, there are {len(found)}")
    if claim.metric not in found[0].metrics:
        raise ValueError(f"the claim needs {claim.metric!r}, arm {name!r} has {list(found[0].metrics)}")
    return found[0].metrics[claim.metric].value


def _grids(arms: list[Arm]) -> tuple[dict[str, bytes], list[dict[str, Any]]]:
    """A grid of the first seed's pictures for each arm: bytes by name, and what the record lists."""
    pictures, listed = {}, []
    for arm in arms:
        if arm.images is not None:
            picture, counted = _samples(arm, arm.images)
        elif arm.points is not None and arm.density is not None:
            picture, counted = _points(arm.points, arm.density)
        else:
            continue
        name = _file_name([arm.name, *(f"{k}{v}".replace("_", "") for k, v in arm.settings.items())])
        pictures[name] = png(picture)
        said = ", ".join([arm.name, *(f"{k} = {v}" for k, v in arm.settings.items())])
        caption = Phrase(ko=f"{said}: {counted.ko}", en=f"{said}: {counted.en}")
        if arm.label is not None:
            caption = Phrase(ko=f"{caption.ko}. {arm.label.ko}", en=f"{caption.en}. {arm.label.en}")
        listed.append({"path": name, "caption": caption._asdict(), "arm": arm.name, "settings": arm.settings})
    return pictures, listed


def _samples(arm: Arm, images: Tensor) -> tuple[Image.Image, Phrase]:
    """A grid of some of the arm's images, and what to say of them."""
    # Spread over the samples of one turn through the classes, so that no class comes twice.
    every = max(1, min(len(images), 2 * GRID_PICTURES) // GRID_PICTURES)
    shown = GRID_PICTURES if arm.beside is None else 2 * GRID_COLUMNS
    chosen = images[::every][:shown]
    sheet = chosen if arm.beside is None else _in_pairs_of_rows(arm.beside[::every][:shown], chosen)
    return grid(sheet, min(GRID_COLUMNS, len(chosen))), Phrase(
        ko=f"시드 하나의 표본 {len(chosen)}장, 고르지 않은 그대로",
        en=f"{len(chosen)} samples of one seed, not selected",
    )


def _points(points: Tensor, density: Density) -> tuple[Image.Image, Phrase]:
    """The first of the points over their density, and what to say of them."""
    chosen = points[:PLOTTED_POINTS]
    picture, outside = points_over(density, chosen, PLOT_SIZE)
    return picture, Phrase(
        ko=f"시드 하나의 점 {len(chosen)}개와 그것이 따라야 할 밀도. 그림 밖에 {outside}개",
        en=f"{len(chosen)} points of one seed over the density they ought to follow, {outside} of them outside",
    )


def _in_pairs_of_rows(above: Tensor, below: Tensor) -> Tensor:
    """(2n, 3, h, w): for a grid in which each row of `below` has its row of `above` over it."""
    rows = zip(above.split(GRID_COLUMNS), below.split(GRID_COLUMNS), strict=True)
    return torch.cat([row for pair in rows for row in pair])


def _file_name(words: list[str]) -> str:
    return re.sub(r"[^a-z0-9_-]", "_", "-".join(words).lower()) + ".png"


@contextmanager
def _rehearsal(settings: Settings, wanted: bool) -> Iterator[None]:
    """Fill in random weights and data, in the real layouts, where the user gave no folders."""
    if not wanted:
        yield
        return
    from denoised.zoo.rehearsal import WRITERS  # builds networks of every kind: seconds to import

    parts = [part for part in (settings.model, settings.data, settings.clip) if part is not None]
    with tempfile.TemporaryDirectory(prefix="denoised-rehearsal-") as temporary:
        for part in parts:
            if part.folder is None and part.name in WRITERS:
                folder = Path(temporary) / part.name
                WRITERS[part.name](folder)
                part.folder = str(folder)
        yield
        for part in parts:
            if part.folder is not None and part.folder.startswith(temporary):
                part.folder = f"random ({part.name})"


@contextmanager
def _out_of_memory_is_told() -> Iterator[None]:
    """Turn an exhausted memory, the GPU's or the machine's, into an error with a remedy."""
    try:
        yield
    except (MemoryError, RuntimeError) as error:
        cpu = isinstance(error, MemoryError) or "can't allocate memory" in str(error)
        if not cpu and not isinstance(error, torch.OutOfMemoryError):
            raise
        raise DenoisedError(
            say(ko="메모리가 모자라 실행을 멈췄다", en="the run stopped: out of memory"),
            help=say(
                ko="한 번에 처리하는 장수를 줄인다: batch=16",
                en="put fewer pictures into one network call: batch=16",
            ),
            code=Exit.RESOURCES,
        ) from error
