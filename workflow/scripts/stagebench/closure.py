"""What a script depends on: the modules of this package that it reaches, and one digest of their contents.

Snakemake notices an edited script, not an edited module that the script imports. So each rule carries the digest of its
script's import closure as a parameter. The algorithm is frozen: changing it reruns every stage of every user.
"""

from __future__ import annotations

import ast
import hashlib
from functools import cache
from pathlib import Path

PACKAGE = "stagebench"
ROOT = Path(__file__).resolve().parent

# What all stages import. An edit here reruns nothing; `records.FORMAT` is raised by hand when it should.
PLUMBING = frozenset(
    {
        "closure.py",
        "config.py",
        "exclusive.py",
        "logs.py",
        "records.py",
        "stage.py",
        "supervise.py",
        "engines/__init__.py",
    }
)


def _file_of(module: str) -> Path | None:
    """Return the file of a dotted module of this package; None where it is a name inside a module."""
    path = ROOT.joinpath(*module.split(".")[1:])
    for file in (path.with_suffix(".py"), path / "__init__.py"):
        if file.is_file():
            return file
    return None


@cache
def _imports(file: Path) -> frozenset[Path]:
    """Return the files of this package that `file` imports, at its head or inside its functions."""
    found: set[Path] = set()
    for node in ast.walk(ast.parse(file.read_bytes(), filename=str(file))):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module and node.level == 0:
            names = [node.module, *(f"{node.module}.{alias.name}" for alias in node.names)]
        else:
            continue
        for name in names:
            if name.split(".")[0] == PACKAGE and (target := _file_of(name)):
                found.add(target)
    return frozenset(found)


def closure(file: Path) -> list[Path]:
    """Return `file` and every module of this package that it reaches, sorted, without the plumbing."""
    reached = {file}
    waiting = [file]
    while waiting:
        for target in _imports(waiting.pop()):
            if target not in reached and target.relative_to(ROOT).as_posix() not in PLUMBING:
                reached.add(target)
                waiting.append(target)
    return sorted(reached)


def closure_digest(file: Path) -> str:
    """Return 16 hexadecimal digits for the contents of `file` and all that it reaches.

    The digest is SHA-256 over, for each file in order of its path relative to the folder of the scripts, that path, a
    zero byte and the SHA-256 of its bytes.
    """
    total = hashlib.sha256()
    for member in closure(file.resolve()):
        total.update(member.relative_to(ROOT.parent).as_posix().encode() + b"\0")
        total.update(hashlib.sha256(member.read_bytes()).digest())
    return total.hexdigest()[:16]
