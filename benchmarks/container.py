"""What confinement costs: the same runs of DDIM in a container and bare, in turns, each with an empty cache.

    python benchmarks/container.py            # needs an engine and the image: denoised image build

Start-up: the whole command at smoke scale, in seconds more than bare (asked: at most 1.5).
Speed: the seconds that a run at mini scale says it took, inside / outside (asked: at most 1.05).
"""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROUNDS = 3
COMMAND = "import sys; from denoised.cli import main; sys.exit(main(sys.argv[1:]))"


def measure(*words: str) -> tuple[float, float]:
    """Seconds of the whole command, and those that its record says."""
    with tempfile.TemporaryDirectory() as folder:
        environment = {**os.environ, "DENOISED_CACHE": f"{folder}/cache"}
        started = time.perf_counter()
        subprocess.run(
            [sys.executable, "-c", COMMAND, "run", "ddim", *words, "--out", folder],
            env=environment, check=True, capture_output=True,
        )  # fmt: skip
        whole = time.perf_counter() - started
        (record,) = Path(folder, "ddim").glob("*.json")
        return whole, json.loads(record.read_text())["time"]["seconds"]


def main() -> None:
    """Print both figures, with every round."""
    smoke: dict[str, list[float]] = {"bare": [], "docker": []}
    mini: dict[str, list[float]] = {"bare": [], "docker": []}
    for turn in range(ROUNDS):
        sides = ["bare", "docker"] if turn % 2 == 0 else ["docker", "bare"]
        for side in sides:
            where = ["--in", "docker"] if side == "docker" else []
            whole, _ = measure("scale=smoke", *where)
            smoke[side].append(whole)
            _, said = measure("seeds=[0,1]", "steps=[10,20]", *where)
            mini[side].append(said)
            print(f"round {turn + 1}, {side}: smoke {whole:.2f} s in all, mini {said:.1f} s", flush=True)
    start = statistics.median(smoke["docker"]) - statistics.median(smoke["bare"])
    ratio = statistics.median(mini["docker"]) / statistics.median(mini["bare"])
    print(f"start-up: {start:+.2f} s against bare (asked: at most 1.5)")
    print(f"mini run, inside / outside: {ratio:.3f} (asked: at most 1.05)")


if __name__ == "__main__":
    main()
