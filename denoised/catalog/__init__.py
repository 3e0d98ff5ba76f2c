"""The catalog: every paper's facts, read from catalog.yaml with each error at its line and column.

    catalog = load(Path("catalog.yaml"))
    catalog.paper("ddim").sentence.ko

Nothing here imports torch.
"""

from denoised.catalog.findings import CODES, Finding
from denoised.catalog.load import CatalogError, Reading, check, load, read
from denoised.catalog.model import KINDS, Catalog, Category, Links, Paper, Prose, Reported, Text
from denoised.catalog.render import FORMATS, Format, render

__all__ = [
    "CODES",
    "FORMATS",
    "KINDS",
    "Catalog",
    "CatalogError",
    "Category",
    "Finding",
    "Format",
    "Links",
    "Paper",
    "Prose",
    "Reading",
    "Reported",
    "Text",
    "check",
    "load",
    "read",
    "render",
]
