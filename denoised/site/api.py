"""The site's data for machines: all papers, each paper, each checkpoint as JSON, and a bibliography."""

from __future__ import annotations

import json
from typing import Any

from denoised.catalog.bibtex import bibtex
from denoised.language import LANGUAGES
from denoised.site.library import SCALES, Item, Library

VERSION = "denoised-api/1"


def api_files(library: Library) -> dict[str, bytes]:
    """Every file by its path under the site's root. The same library gives the same bytes."""
    files = {
        "api/papers.json": _json(
            {
                "api": VERSION,
                "categories": [each.model_dump(mode="json") for each in library.catalog.categories],
                "papers": [_summary(item) for item in library.items],
            }
        ),
        "bibliography.bib": "\n".join(bibtex(item.paper) for item in library.items).encode(),
    }
    for item in library.items:
        files[f"api/papers/{item.paper.id}.json"] = _json(
            {"api": VERSION, **_summary(item), **_details(item)}
        )
        for scale in SCALES:
            if (path := item.results[scale].path) is not None:
                files[f"api/records/{item.paper.id}/{scale}.json"] = path.read_bytes()
    for checkpoint in library.checkpoints:
        files[f"api/zoo/{checkpoint.name}.json"] = _json(
            {
                "api": VERSION,
                "name": checkpoint.name,
                **checkpoint.manifest.model_dump(mode="json"),
                "history": checkpoint.history.model_dump(mode="json") if checkpoint.history else None,
                "pages": {language: f"{language}/zoo/{checkpoint.name}/" for language in LANGUAGES},
            }
        )
    return files


def _summary(item: Item) -> dict[str, Any]:
    id = item.paper.id
    return {
        **item.paper.model_dump(mode="json"),
        "status": item.status,
        "runner": item.method.path if item.method else None,
        "pages": {language: f"{language}/papers/{id}/" for language in LANGUAGES},
    }


def _details(item: Item) -> dict[str, Any]:
    results = {}
    for scale, result in item.results.items():
        results[scale] = {
            "status": item.at(scale),
            "published": result.record is not None and not result.local,
            "unverified": [reason._asdict() for reason in result.problems],
            "record": json.loads(result.path.read_bytes()) if result.path else None,
        }
    return {
        "entry_sha256": item.entry_sha256,
        "bibtex": bibtex(item.paper),
        "notes": dict(item.notes),
        "results": results,
    }


def _json(value: object) -> bytes:
    return (json.dumps(value, ensure_ascii=False, indent=1, sort_keys=True) + "\n").encode()
