"""How fast the metrics are, against torchmetrics with the same features.

    python benchmarks/metrics.py [--write]

Both sides run in one process on one thread, interleaved; the minimum CPU time of five rounds counts. The values
of both sides are compared too. --write keeps the table in site/assets/benchmarks/metrics.json, which the site's
page of metrics shows.
"""

from __future__ import annotations

import argparse
import json
import time
import warnings
from collections.abc import Callable
from functools import partial
from importlib.metadata import version
from pathlib import Path

import torch
from torch import Tensor, nn
from torchmetrics.image.fid import FrechetInceptionDistance, _compute_fid
from torchmetrics.image.kid import poly_mmd

from denoised.environment import cpu_name
from denoised.metrics.distances import frechet_distance, kernel_distances_of_subsets
from denoised.metrics.features import EfficientNetLite0
from denoised.worlds.emoji import render, sample_scenes

ROUNDS = 5
PICTURES = 1000
ROOT = Path(__file__).resolve().parents[1]


def features(n: int, d: int, seed: int) -> Tensor:
    """Correlated features, as networks give them."""
    random = torch.Generator().manual_seed(seed)
    mix = torch.randn(64, d, generator=random)
    return torch.randn(n, 64, generator=random) @ mix + 0.3 * torch.randn(n, d, generator=random)


def seconds(work: Callable[[], object]) -> tuple[float, object]:
    started = time.process_time()
    result = work()
    return time.process_time() - started, result


def against(ours: Callable[[], float], theirs: Callable[[], float]) -> dict[str, float]:
    """The minimum CPU seconds of both sides, and how far their values are apart, relatively."""
    times: list[tuple[float, float]] = []
    for _ in range(ROUNDS):
        (a, x), (b, y) = seconds(ours), seconds(theirs)
        times.append((a, b))
    best = [min(column) for column in zip(*times, strict=True)]
    return {"ours": best[0], "theirs": best[1], "difference": abs(float(x) - float(y)) / abs(float(y))}  # type: ignore[arg-type]


class Given(nn.Module):
    """For torchmetrics: an extractor whose pictures are the features already."""

    num_features = 1280

    def forward(self, x: Tensor) -> Tensor:
        return x.flatten(1)


def frechet_tail(n: int) -> dict[str, float]:
    a, b = features(n, 2048, 0).double(), features(n, 2048, 1).double()
    moments = a.mean(0), torch.cov(a.T), b.mean(0), torch.cov(b.T)
    return against(lambda: frechet_distance(a, b), lambda: float(_compute_fid(*moments)))


def frechet_whole() -> dict[str, float]:
    a, b = features(1000, 1280, 0), features(1000, 1280, 1)

    def theirs() -> float:
        metric = FrechetInceptionDistance(feature=Given(), input_img_size=(1280, 1, 1), normalize=True)
        metric.set_dtype(torch.float64)
        metric.update(a.double()[:, :, None, None], real=True)
        metric.update(b.double()[:, :, None, None], real=False)
        return float(metric.compute())

    return against(lambda: frechet_distance(a, b), theirs)


def kernel() -> dict[str, float]:
    a, b = features(1000, 1280, 0).double(), features(1000, 1280, 1).double()
    random = torch.Generator().manual_seed(0)
    subsets = [
        (torch.randperm(1000, generator=random)[:500], torch.randperm(1000, generator=random)[:500])
        for _ in range(100)
    ]
    return against(
        lambda: float(kernel_distances_of_subsets(a, b, subsets).mean()),
        lambda: float(torch.stack([poly_mmd(a[i], b[j]) for i, j in subsets]).mean()),
    )


def extraction() -> dict[str, float]:
    extractor = EfficientNetLite0(ROOT / "zoo" / "effnet-lite0" / "model.safetensors")
    pictures = render(sample_scenes(PICTURES, 0), 32)

    @torch.inference_mode()
    def one_by_one() -> float:
        return float(torch.cat([extractor(picture[None]) for picture in pictures]).mean())

    row = against(lambda: float(extractor(pictures).mean()), one_by_one)
    return row | {"pictures_per_second": PICTURES / row["ours"]}


ROWS: dict[str, tuple[str, Callable[[], dict[str, float]]]] = {
    **{
        f"frechet-tail-{n}": (
            f"Fréchet distance, {n:,} × 2,048 features, theirs given its moments",
            partial(frechet_tail, n),
        )
        for n in (250, 500, 1000)
    },
    "frechet-whole": ("Fréchet distance from 1,000 × 1,280 features", frechet_whole),
    "kernel": ("kernel distance, 100 subsets of 500", kernel),
    "extraction": ("features of 1,000 pictures, batched against one by one", extraction),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--write", action="store_true", help="keep the table for the site")
    write = parser.parse_args().write
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")  # of torchmetrics about memory
    environment = {
        "torch": torch.__version__,
        "torchmetrics": version("torchmetrics"),
        "cpu": cpu_name(),
        "threads": 1,
    }
    print(", ".join(f"{k} {v}" for k, v in environment.items()) + "\n")
    print("| | ours, s | theirs, s | faster | relative difference |")
    print("| --- | --- | --- | --- | --- |")
    rows = []
    for name, (what, measure) in ROWS.items():
        row = measure()
        rows.append({"name": name, **row})
        print(
            f"| {what} | {row['ours']:.3f} | {row['theirs']:.3f} | {row['theirs'] / row['ours']:.1f}× | "
            f"{row['difference']:.1e} |",
            flush=True,
        )
    print(f"\nThe extractor reads {rows[-1]['pictures_per_second']:.0f} pictures a second.")
    if write:
        path = ROOT / "site" / "assets" / "benchmarks" / "metrics.json"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps({"environment": environment, "rows": rows}, indent=1) + "\n")


if __name__ == "__main__":
    main()
