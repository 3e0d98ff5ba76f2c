"""The parser against files that nobody should write: thousands of mutants, each watched for time and memory.

    python benchmarks/fuzz.py [--mutants 5000] [--seed 0]

Prints how many were accepted and refused, by which codes, the slowest reading and the most memory. Exit 1 where
one was not told as a finding with a place, took over a second, or made the process grow by over 200 MB.
"""

from __future__ import annotations

import argparse
import gc
import random
import resource
import sys
import time
import traceback
from collections import Counter
from pathlib import Path

from benchmarks.mutants import SPECIMENS, assert_sound, mutated
from denoised.catalog.load import read_data
from denoised.contribute.fix import fix

ROOT = Path(__file__).resolve().parent.parent
SECONDS, MEGABYTES = 1.0, 200
ENTRIES = 12  # of the real catalog, beside the small one of the tests


def seeds() -> list[bytes]:
    """The valid catalogs that mutants are made from: the tests' own, and the head of the real one."""
    small = (ROOT / "tests" / "catalog" / "fixtures" / "valid.yaml").read_bytes()
    blocks = (ROOT / "catalog.yaml").read_bytes().split(b"\n\n  - id: ")
    return [small, b"\n\n  - id: ".join(blocks[: ENTRIES + 1]) + b"\n"]


def peak() -> float:
    """The most memory that this process ever held, in MB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def main() -> int:
    """Run, print the counts, and say by the exit code whether the promises hold."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("--mutants", type=int, default=5000)
    parser.add_argument("--seed", type=int, default=0)
    chosen = parser.parse_args()
    valid = seeds()
    before = peak()
    codes: Counter[str] = Counter()
    accepted = mended = 0
    slowest, slowest_name, failed = 0.0, "", []
    cases = [(f"specimen {name}", change(valid[0])) for name, change in SPECIMENS.items()]
    for number in range(chosen.mutants + len(cases)):
        if number < len(cases):
            name, data = cases[number]
        else:
            seed = chosen.seed + number - len(cases)
            name, data = f"mutant {seed}", mutated(random.Random(seed), valid[seed % len(valid)])
        started = time.perf_counter()
        read_data("catalog.yaml", data)
        seconds = time.perf_counter() - started
        try:
            reading = assert_sound(data)
            # A fix reads the file many times; what is no text has nothing to mend.
            if number % 3 == 0 and len(reading.findings) < 50 and _is_text(data):
                mended += _fixed_soundly(data)
        except Exception:  # whatever it is: this is what the run is for
            failed.append(f"{name}: {traceback.format_exc(limit=-2)}")
            continue
        accepted += reading.catalog is not None
        codes.update({finding.code for finding in reading.findings})
        if seconds > slowest:
            slowest, slowest_name = seconds, name
        if sys.stderr.isatty() and number % 100 == 0:
            print(f"\r{number}", end="", file=sys.stderr, flush=True)
    gc.collect()
    grown = peak() - before
    total = chosen.mutants + len(cases)
    print(f"{total} files: {len(cases)} specimens, {chosen.mutants} mutants from seed {chosen.seed}")
    print(f"accepted {accepted}, refused {total - accepted - len(failed)}, broke a promise {len(failed)}")
    print(f"mended by fix, of every third: {mended}")
    print(f"codes seen: {len(codes)}: " + ", ".join(f"{code} {n}" for code, n in sorted(codes.items())))
    print(f"slowest: {slowest * 1000:.0f} ms ({slowest_name}); memory grew by at most {grown:.0f} MB")
    print("\n".join(failed[:10]))
    return int(bool(failed) or slowest > SECONDS or grown > MEGABYTES)


def _is_text(data: bytes) -> bool:
    try:
        data.decode("utf-8")
    except UnicodeDecodeError:
        return False
    return True


def _fixed_soundly(data: bytes) -> bool:
    """Whether `fix` changed anything; a second fix changes nothing, and nothing new is wrong after it."""
    fixed = fix("catalog.yaml", data)
    again = fix("catalog.yaml", fixed.after.encode())
    assert again.after == fixed.after, "fix is not idempotent"
    return bool(fixed.mended)


if __name__ == "__main__":
    sys.exit(main())
