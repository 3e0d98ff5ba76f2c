"""The import rules of the project, read from the source of every file."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent


def imports(path: Path) -> Iterator[str]:
    """Every module that a file imports, wherever the import stands."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            yield str(node.module)


def ours(folder: str) -> list[tuple[Path, str]]:
    found = [
        (path, name)
        for path in sorted((ROOT / folder).rglob("*.py"))
        for name in imports(path)
        if name.split(".")[0] in ("denoised", "runners")
    ]
    assert list((ROOT / folder).rglob("*.py")), folder
    return found


def test_runners_import_denoised_only_and_never_each_other() -> None:
    assert [(p.name, n) for p, n in ours("runners") if n.startswith("runners")] == []


@pytest.mark.parametrize("package", ["diffusion", "metrics"])
def test_methods_and_metrics_stand_alone(package: str) -> None:
    foreign = [(p.name, n) for p, n in ours(f"denoised/{package}") if not n.startswith(f"denoised.{package}")]
    assert foreign == []


def test_nothing_imports_runners_except_by_name() -> None:
    assert [(p.name, n) for p, n in ours("denoised") if n.startswith("runners")] == []
    by_name = [
        path.name
        for path in (ROOT / "denoised").rglob("*.py")
        if "import_module" in path.read_text(encoding="utf-8") and path.name != "settings.py"
    ]
    assert by_name == ["registry.py"]


@pytest.mark.parametrize(
    "module",
    ["denoised.catalog", "denoised.site", "denoised.lab.record", "denoised.cli", "denoised.registry"],
)
def test_the_catalog_and_the_site_start_without_torch(module: str) -> None:
    code = f"import sys, {module}; sys.exit('torch' in sys.modules or 'diffusers' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT).returncode == 0
