"""How long `denoised check` takes, and how much memory: the whole catalog, and ten thousand entries like its own.

    python benchmarks/catalog.py

CPU seconds of whole commands, started cold, the median of five (of two for the large one); asked: at most 0.8 s
for the catalog, 12 s and 1 GB for ten thousand entries.
"""

from __future__ import annotations

import os
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
ENTRIES = 10_000


def synthetic(text: str, count: int) -> str:
    """A catalog of `count` entries: the given one's over and over, with ids, titles and identifiers of their own."""
    head, _, body = text.partition("papers:\n")
    blocks = [f"  - id: {block}".rstrip() for block in ("\n\n" + body).split("\n\n  - id: ")[1:]]
    blocks[0] = blocks[0].replace("  - id:   - id: ", "  - id: ")
    entries = []
    for number in range(count):
        block = blocks[number % len(blocks)]
        lines = [
            line for line in block.split("\n") if not line.lstrip().startswith(("builds_on", "prerequisites"))
        ]
        id = lines[0].removeprefix("  - id: ")
        lines[0] = f"  - id: c{number:05}-{id}"
        lines = [_unique(line, number) for line in lines]
        entries.append("\n".join(lines))
    return head + "papers:\n" + "\n\n".join(entries) + "\n"


def _unique(line: str, number: int) -> str:
    field = line.strip().partition(":")[0]
    if field == "title":
        text = line.partition(": ")[2].strip("\"'").replace('"', "'")
        return f'    title: "{text} {number}"'
    if field == "published":
        return '    published: "2012-01-15"'
    if field == "links" and "arxiv:" in line:
        head, _, rest = line.partition('arxiv: "')
        return f'{head}arxiv: "1201.{number:04}"{rest.partition(chr(34))[2]}'
    return line


def measure(path: Path) -> tuple[float, float]:
    """CPU seconds and the most memory (MB) of one `denoised check`, which must find nothing wrong."""
    command = [sys.executable, "-m", "denoised.cli", "check", str(path)]
    process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    said = process.stdout.read()
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        sys.exit(said[-2000:])
    return usage.ru_utime + usage.ru_stime, usage.ru_maxrss / 1024


def main() -> None:
    """Print both figures."""
    catalog = ROOT / "catalog.yaml"
    with tempfile.TemporaryDirectory() as folder:
        large = Path(folder, "catalog.yaml")
        large.write_text(synthetic(catalog.read_text(encoding="utf-8"), ENTRIES), encoding="utf-8")
        for name, path, rounds in (("the catalog", catalog, 5), (f"{ENTRIES:,} entries", large, 2)):
            measured = [measure(path) for _ in range(rounds)]
            seconds, memory = (statistics.median(side) for side in zip(*measured, strict=True))
            size = path.stat().st_size / 2**20
            print(f"{name} ({size:.1f} MiB): {seconds:.2f} CPU s, {memory:.0f} MB")


if __name__ == "__main__":
    main()
