"""From a finished training run to a checkpoint folder: manifest, curves, model card.

Recipes write their weights, measure them, and hand the rows to `publish`, which writes everything that
people read: manifest.json, losses.json, quality.json and the card. The card says nothing that is not in the
manifest.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any, Literal

import safetensors.torch
from torch import Tensor

from denoised.files import write_whole
from denoised.language import Phrase
from denoised.numbers import percent, wilson
from denoised.zoo.manifest import write_manifest
from denoised.zoo.train import Training

# transformers computes in what the config names, whatever the file holds: halves are for shipping only.
COMPUTED_IN = {"dtype": "float32"}
Unit = Literal["share", "dB", "distance", "number"]


def row(name: str, what: Phrase, value: float, n: int, **more: Any) -> dict[str, Any]:
    """One measured quality.

    More: `unit` ("share", "dB", "distance", "number"), `better` ("higher", "lower"), `floor` that it must
    reach, `chance` level, `real` for the same measure of real scenes, `split` ("test", "compositions"),
    `language` of the prompts, `headline`.
    """
    return {"name": name, "en": what.en, "ko": what.ko, "value": value, "n": n, **more}


def save_weights(path: Path, weights: Mapping[str, Tensor]) -> None:
    """Write weights as fp16 safetensors; integers as they are."""
    halves = {k: v.half().contiguous() if v.is_floating_point() else v for k, v in weights.items()}
    write_whole(path, safetensors.torch.save(halves, {"format": "pt"}))


def save_json(path: Path, content: object) -> None:
    write_whole(path, (json.dumps(content, ensure_ascii=False, indent=2) + "\n").encode())


def publish(
    training: Training,
    folder: Path,
    files: list[str],
    quality: list[dict[str, Any]],
    *,
    about: Phrase,
    protocol: Phrase,
    parameters: int | dict[str, int],
    usage: str,
    samples: Phrase | None = None,
    limits: Phrase | None = None,
    curves: Mapping[str, Phrase] | None = None,
    **facts: Any,
) -> None:
    """Write the manifest of `files`, both curves and the card of a trained checkpoint.

    `usage` is Python that loads the folder in plain diffusers or transformers, `samples` the caption of
    samples.png, `limits` what keeps it below a floor, `curves` what the columns of the quality curve are called.
    """
    name, config = training.recipe.NAME, training.config
    every = max(1, training.step // 200)
    parts = [training.losses[i : i + every] for i in range(0, len(training.losses), every)]
    losses = {"every": every, "loss": [round(sum(part) / len(part), 5) for part in parts]}
    save_json(folder / "losses.json", losses)
    rows = [{**line, "pictures": int(line["step"] * config.batch)} for line in training.curve]
    names = {key: {"en": what.en, "ko": what.ko} for key, what in (curves or {}).items()}
    save_json(folder / "quality.json", {"rows": rows, "metrics": names})
    content = {
        "about": {"en": about.en, "ko": about.ko},
        "protocol": {"en": protocol.en, "ko": protocol.ko},
        "recipe": f"denoised train {name}",
        "config": asdict(config),
        "parameters": parameters,
        "steps": training.step,
        "pictures_seen": training.step * config.batch,
        "hours": round(training.seconds / 3600, 2),
        "hardware": "; ".join(training.hardware),
        "quality": quality,
        "license": "Apache-2.0",
        **({"samples": {"en": samples.en, "ko": samples.ko}} if samples else {}),
        **({"limits": {"en": limits.en, "ko": limits.ko}} if limits else {}),
        **facts,
    }
    write_manifest(folder, files, content)
    manifest = json.loads((folder / "manifest.json").read_text(encoding="utf-8"))
    write_whole(folder / "README.md", card(name, manifest, rows, usage).encode())


def card(name: str, facts: Mapping[str, Any], curve: list[dict[str, Any]], usage: str) -> str:
    """The model card in English and Korean, from the manifest and the curve alone."""
    parameters = facts["parameters"]
    total = sum(parameters.values()) if isinstance(parameters, dict) else parameters
    size = sum(file["bytes"] for file in facts["files"].values())
    weights = "<br>".join(
        f"`{path}` `{file['sha256']}`"
        for path, file in facts["files"].items()
        if path.endswith("safetensors")
    )
    picture = ""
    if "samples" in facts:
        picture = f"![{facts['samples']['en']}](samples.png)\n\n"
    limits = {"en": "", "ko": ""}
    if "limits" in facts:
        limits["en"] = f"## What limits it\n\n{facts['limits']['en']}\n\n"
        limits["ko"] = f"\n### 무엇이 한계인가\n\n{facts['limits']['ko']}\n"
    trained = f"{facts['steps']:,} steps of {facts['config']['batch']}, {facts['pictures_seen']:,} pictures"
    return f"""---
license: apache-2.0
tags: [emoji-world]
---
# {name}

{facts["about"]["en"]}

{picture}| | |
| --- | --- |
| recipe | `{facts["recipe"]}` |
| training | {trained}; the weights are an average with decay {facts["config"]["ema"]} |
| time | {facts["hours"]:g} hours on {facts["hardware"]} |
| parameters | {total / 1e6:.2f} M, {size / 1e6:.1f} MB |
| sha256 | {weights} |
| licence | Apache-2.0 |

## Measured quality

{facts["protocol"]["en"]}

{_table(facts["quality"], "en")}

{limits["en"]}{_curve(curve)}
## Use

```python
{usage.strip()}
```

## 한국어

{facts["about"]["ko"]}

`{facts["recipe"]}`로 {facts["hardware"]}에서 {facts["hours"]:g}시간 동안 {facts["pictures_seen"]:,}장을 학습했다.

{facts["protocol"]["ko"]}

{_table(facts["quality"], "ko")}
{limits["ko"]}"""


def _table(quality: list[dict[str, Any]], language: Literal["en", "ko"]) -> str:
    words = {
        "en": ("measured", "value", "95 % interval", "floor", "chance", "real scenes", "n"),
        "ko": ("잰 것", "값", "95 % 구간", "기준", "우연", "실제 장면", "n"),
    }[language]
    splits = {
        "compositions": {"en": "held-out pairs", "ko": "떼어 둔 조합"},
        "train": {"en": "training scenes", "ko": "학습 장면"},
    }
    lines = [f"| {' | '.join(words)} |", "|" + " --- |" * len(words)]
    for entry in quality:
        what = entry[language]
        if entry.get("split") in splits:
            what += f" ({splits[entry['split']][language]})"
        if "language" in entry:
            what += f" [{entry['language']}]"
        unit = entry.get("unit", "share")
        between = ""
        if unit == "share":
            low, high = wilson(entry["value"], entry["n"])
            between = f"{100 * low:.1f} – {100 * high:.1f} %"
        cells = [what, _number(entry["value"], unit), between]
        cells += [_number(entry[k], unit) if k in entry else "" for k in ("floor", "chance", "real")]
        lines.append(f"| {' | '.join([*cells, str(entry['n'])])} |")
    return "\n".join(lines)


def _curve(curve: list[dict[str, Any]]) -> str:
    if not curve:
        return ""
    columns = list(curve[-1])
    lines = ["## Quality against training", "", f"| {' | '.join(columns)} |", "|" + " --- |" * len(columns)]
    lines += [f"| {' | '.join(f'{line[c]:g}' if c in line else '' for c in columns)} |" for line in curve]
    return "\n".join(lines) + "\n"


def _number(value: float, unit: Unit) -> str:
    if unit == "share":
        return percent(value)
    return f"{value:.2f} dB" if unit == "dB" else f"{value:.4g}"
