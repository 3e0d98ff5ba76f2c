"""The method's own code, cut from a runner: read as text, parsed by `ast`, never imported."""

from __future__ import annotations

import ast
import hashlib
from dataclasses import dataclass
from pathlib import Path

from denoised.errors import DenoisedError, Exit


@dataclass(frozen=True)
class Piece:
    """One top-level definition: its name, its first and last line in the file, and its text."""

    name: str
    first: int
    last: int
    code: str


@dataclass(frozen=True)
class Method:
    """What a runner says and does: docstring, `Config`, and every function but the experiment, `reproduce…`."""

    path: str  # relative to the project
    sha256: str
    docstring: str
    pieces: tuple[Piece, ...]


def read_method(root: Path, runner: str) -> Method | None:
    """The method in the runner file `root / runner`; None if there is no such file.

    Raises DenoisedError (FINDINGS) if the file is not Python.
    """
    path = root / runner
    if not path.is_file():
        return None
    data = path.read_bytes()
    text = data.decode()
    try:
        tree = ast.parse(text)
    except SyntaxError as error:
        raise DenoisedError(f"{runner}:{error.lineno}: {error.msg}", code=Exit.FINDINGS) from error
    lines = text.splitlines()
    pieces = []
    for node in tree.body:
        wanted = isinstance(node, ast.FunctionDef) and not node.name.startswith("reproduce")
        if wanted or (isinstance(node, ast.ClassDef) and node.name == "Config"):
            assert isinstance(node, ast.FunctionDef | ast.ClassDef)
            first = min([node.lineno, *(decorator.lineno for decorator in node.decorator_list)])
            last = node.end_lineno or node.lineno
            pieces.append(Piece(node.name, first, last, "\n".join(lines[first - 1 : last])))
    return Method(runner, hashlib.sha256(data).hexdigest(), ast.get_docstring(tree) or "", tuple(pieces))


def argument_to_change(method: Method) -> tuple[str, str] | None:
    """A field of `Config` and an override a reader can try: half of a count, or the head of a list of counts.

    None where no field has a default of that kind.
    """
    config = next((piece for piece in method.pieces if piece.name == "Config"), None)
    if config is None:
        return None
    for node in ast.walk(ast.parse(config.code)):
        if not isinstance(node, ast.AnnAssign) or node.value is None or not isinstance(node.target, ast.Name):
            continue
        name = node.target.id
        for value in ast.walk(node.value):
            if isinstance(value, ast.Constant) and type(value.value) is int and value.value >= 2:
                return name, f"{name}={value.value // 2}"
            if isinstance(value, ast.List) and len(value.elts) >= 3:
                head = [each.value for each in value.elts[:2] if isinstance(each, ast.Constant)]
                return name, f"{name}='{head}'".replace(" ", "")
    return None
