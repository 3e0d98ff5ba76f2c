"""A small project to build sites from: the project's own texts, with records made up for the purpose."""

from __future__ import annotations

import hashlib
import shutil
import struct
import threading
import zlib
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean
from typing import Any

from denoised.catalog import load
from denoised.lab.record import entry_sha256
from denoised.lab.verdicts import interval, verdict
from denoised.site import Pages, make_server

ROOT = Path(__file__).parents[2]
FID, KID = "fid[effnet-lite0@64]", "kid[effnet-lite0@64]"


def png(width: int, height: int, shade: int) -> bytes:
    """A grey PNG."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    rows = (b"\0" + bytes([shade]) * width) * height
    header = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    body = chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + body


def metric(name: str, values: list[float]) -> dict[str, Any]:
    return {
        "name": name,
        "value": fmean(values),
        "n": 256,
        "per_seed": [{"seed": seed, "value": value} for seed, value in enumerate(values)],
        "interval": interval(values),
        "interval_over": "seeds" if len(values) > 1 else None,
        "higher_is_better": False,
        "bounds": (None, None),
        "implementation": {"name": "denoised.metrics", "version": "1"},
        "extractor": "effnet-lite0",
        "reference": {"name": "emoji-pixel", "n": 2048, "sha256": "ab" * 32},
    }


def arm(name: str, settings: dict[str, Any], fid: list[float], calls: int) -> dict[str, Any]:
    return {
        "name": name,
        "settings": settings,
        "metrics": [metric(FID, fid), metric(KID, [value / 500 - 0.02 for value in fid])],
        "cost": {
            "network_calls": calls * 4,
            "network_samples": calls * 256,
            "seconds": calls * 0.4,
            "images_per_second": 256 / (calls * 0.4),
            "peak_memory_mb": 700.5,
            "parameters_trained": 0,
        },
    }


def claim(arms: list[dict[str, Any]], one: int, other: int, at: dict[str, Any]) -> dict[str, Any]:
    values = [[each["value"] for each in arms[index]["metrics"][0]["per_seed"]] for index in (one, other)]
    differences = [a - b for a, b in zip(*values, strict=True)]
    return {
        "metric": FID,
        "arm": arms[one]["name"],
        "relation": "<",
        "than": arms[other]["name"],
        "at": at,
        "verdict": verdict("<", interval(differences)),
        "effect": fmean(differences),
        "interval": interval(differences),
        "margin": 0.0,
        "per_seed": [{"seed": seed, "value": value} for seed, value in enumerate(differences)],
    }


def ddim_arms() -> list[dict[str, Any]]:
    return [
        arm(name, {"steps": steps}, [base * factor for factor in (1.0, 1.02, 0.99)], steps)
        for steps, bases in ((5, (41, 88)), (10, (22, 51)), (20, (15, 29)), (50, (12, 15)))
        for name, base in zip(("ddim", "ddpm"), bases, strict=True)
    ]


def record_of(
    root: Path, id: str, arms: list[dict[str, Any]], claims: list[dict[str, Any]]
) -> dict[str, Any]:
    """A record of a paper of the project at `root`, with one picture named sample.png."""
    paper = load(root / "catalog.yaml").paper(id)
    runner = root / paper.runner_file
    return {
        "key": "cd" * 32,
        "paper": {"id": id, "entry_sha256": entry_sha256(paper)},
        "seeds": {"asked": [0, 1, 2], "finished": [0, 1, 2]},
        "config": {
            "settings": {"batch": 64, "model": {"name": "emoji-pixel", "folder": "zoo/emoji-pixel"}},
            "method": {"steps": [5, 10, 20, 50], "eta": 0.0},
        },
        "arms": arms,
        "claims": claims,
        "environment": {
            "python": "3.11.2",
            "torch": "2.13.0+cpu",
            "diffusers": "0.42.1",
            "numpy": "2.4.6",
            "platform": "Linux",
            "cpu": "Some CPU @ 2.80GHz",
            "threads": 2,
            "gpu": None,
            "driver": None,
            "container": None,
        },
        "code": {
            "version": "0.1.0",
            "commit": "1f" * 20,
            "dirty": False,
            "runner_sha256": hashlib.sha256(runner.read_bytes()).hexdigest()
            if runner.is_file()
            else "0" * 64,
        },
        "inputs": [{"path": "zoo/emoji-pixel/model.safetensors", "sha256": "9e" * 32, "bytes": 5_734_211}],
        "pictures": [
            {"path": "sample.png", "caption": {"ko": "표본", "en": "Samples"}, "arm": "ddim", "settings": {}}
        ],
        "time": {"started": "2026-01-02T03:04:05Z", "finished": "2026-01-02T03:08:05Z", "seconds": 240.0},
    }


def copy_project(to: Path) -> Path:
    """The project's own site, catalog, notes, runners and emoji, without published results and checkpoints."""
    to.mkdir(parents=True)
    shutil.copytree(ROOT / "site", to / "site")
    shutil.copytree(ROOT / "papers", to / "papers", ignore=shutil.ignore_patterns("results"))
    shutil.copytree(ROOT / "runners", to / "runners", ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copytree(ROOT / "data" / "emoji", to / "data" / "emoji")
    (to / "zoo").mkdir()
    for name in ("catalog.yaml", "mkdocs.yml"):
        shutil.copy(ROOT / name, to / name)
    return to


@dataclass(frozen=True)
class Built:
    """A built site and the project it was built from."""

    root: Path
    pages: Pages

    @property
    def site(self) -> Path:
        return self.root / "build" / "site"


class serving:
    """A context in which a project's built site is served on a free port."""

    def __init__(self, root: Path) -> None:
        self._server = make_server(root, 0)
        self._thread = threading.Thread(target=self._server.serve_forever, daemon=True)

    def __enter__(self) -> str:
        self._thread.start()
        return f"http://127.0.0.1:{self._server.server_address[1]}"

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()
