"""Draw atlas.png, held-out.png and accessories.png from the npm package emoji-datasource-google 16.0.0.

    python data/emoji/make_atlas.py FOLDER      # the unpacked package, which holds img/google/64/

objects.json, edited by hand, says which emoji: their code points and the order of the tiles. That order is
the class order of every checkpoint in zoo/, so entries are only ever appended.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

from PIL import Image

HERE = Path(__file__).parent


def main(pictures: Path) -> None:
    """Write the three pictures beside objects.json from `pictures`/<code points>.png, 64×64 RGBA each."""
    index = json.loads((HERE / "objects.json").read_text(encoding="utf-8"))
    tile, columns = index["tile"], index["columns"]
    for part, name in (
        ("objects", "atlas.png"),
        ("held_out", "held-out.png"),
        ("accessories", "accessories.png"),
    ):
        entries = index[part]
        sheet = Image.new("RGBA", (columns * tile, -(-len(entries) // columns) * tile))
        for i, entry in enumerate(entries):
            emoji = Image.open(pictures / f"{entry['codepoints'].lower()}.png").convert("RGBA")
            sheet.paste(emoji, (i % columns * tile, i // columns * tile))
        sheet.save(HERE / name, optimize=True)


if __name__ == "__main__":
    main(Path(sys.argv[1]) / "img" / "google" / "64")
