"""Dependencies of a script: the modules that it reaches, and one digest of their code.

Snakemake notices an edited script, not an edited module that the script imports. So each rule carries the digest of its
script's import closure as a parameter. Comments, docstrings and layout are no part of it. The algorithm is frozen:
changing it reruns every stage of every user.
"""

from __future__ import annotations

import ast
import hashlib
import io
import sys
import sysconfig
import token
import tokenize
from collections.abc import Callable, Iterator
from functools import cache
from importlib import metadata
from importlib.machinery import PathFinder
from pathlib import Path
from typing import NamedTuple

from stagebench.errors import StagebenchError

PACKAGE = "stagebench"

# What all stages import, and what describes without deciding. An edit here reruns nothing; where the meaning of a
# record changes with it, the FORMAT of that kind is raised by hand.
PLUMBING = frozenset(
    {
        "stagebench",
        "stagebench.config",
        "stagebench.errors",
        "stagebench.vocabulary",
        "stagebench.registry",
        "stagebench.records",
        "stagebench.host",
        "stagebench.host.environment",
        "stagebench.host.gpu_state",
        "stagebench.host.lock",
        "stagebench.job",
        "stagebench.engines",
        "stagebench.engines.registry",
    }
)
# Rooms of which every module is plumbing.
_PLUMBING_ROOMS = ("stagebench.records.", "stagebench.job.")

_LAYOUT = frozenset({token.COMMENT, token.NL, token.ENCODING, token.ENDMARKER, token.TYPE_COMMENT})
_MARKS = {token.NEWLINE: "\n", token.INDENT: "\t", token.DEDENT: "\b"}
# Python 3.12 cuts f-strings into tokens; 3.11 has each as one string. They are put together again.
_F_STRING_BEGINS = {getattr(token, name) for name in ("FSTRING_START", "TSTRING_START") if hasattr(token, name)}
_F_STRING_ENDS = {getattr(token, name) for name in ("FSTRING_END", "TSTRING_END") if hasattr(token, name)}


def is_plumbing(module: str) -> bool:
    """Return whether a module of this package is left out of all digests."""
    return module in PLUMBING or module.startswith(_PLUMBING_ROOMS)


def closure(root: Path, name: str = "") -> dict[str, Path]:
    """Return `root` and every module that it reaches, by dotted name and sorted, without the plumbing.

    Modules of this package are followed, and so is code that lies outside installed distributions and the standard
    library: a user's own engine with its helpers. Of an installed distribution the version counts instead, but for
    the package that `name` itself belongs to.

    Args:
        root: a script or a module's file.
        name: the module's dotted name; empty for a script.
    """
    own = name.partition(".")[0]
    return _walk(root, name, lambda target: (top := _top(target)) not in (PACKAGE, own) and _is_installed(top)).modules


def closure_digest(root: Path, name: str = "") -> str:
    """Return 16 hexadecimal digits for the code of `root` and of all that it reaches.

    SHA-256 over, for each module in the order of the names, its name, a zero byte and the SHA-256 of its tokens.
    """
    return _digest(closure(root, name))


def module_digest(name: str) -> str:
    """Return `closure_digest` of an importable module, which is not imported for it.

    Raises:
        StagebenchError: there is no such module.
    """
    file = _file_of(name)
    if file is None:
        raise StagebenchError(f"module {name!r} is not found; install it, or put its folder on PYTHONPATH")
    return closure_digest(file, name)


class Made(NamedTuple):
    """What a user's module is made of."""

    #: `closure_digest` of the code outside installed distributions; empty where the module belongs to one itself.
    code: str
    #: The distributions that this code imports, sorted; their versions count instead of their code.
    distributions: tuple[str, ...]


def made_of(name: str) -> Made:
    """Return what an importable object is made of, such as `package.module.callable`; nothing is imported for it.

    Raises:
        StagebenchError: there is no such module, or code that it reaches cannot be read.
    """
    module = name
    while (file := _file_of(module)) is None:
        module, _, last = module.rpartition(".")
        if not last or not module:
            raise StagebenchError(f"no module of {name!r} is found; install it, or put its folder on PYTHONPATH")
    if _is_distributed(module):
        return Made("", _distributions().get(_top(module), ()))
    try:
        reached = _walk(file, module, _is_distributed)
        code = _digest(reached.modules)
    except (SyntaxError, ValueError, OSError, tokenize.TokenError) as error:
        raise StagebenchError(f"the code that {name!r} reaches cannot be read: {error}") from error
    stops = {named for target in reached.stops for named in _distributions().get(_top(target), ())}
    return Made(code, tuple(sorted(stops)))


class _Reached(NamedTuple):
    """The modules that were reached, by dotted name and sorted, and the imports at which the way ended."""

    modules: dict[str, Path]
    stops: set[str]


def _walk(root: Path, name: str, ends: Callable[[str], bool]) -> _Reached:
    """Follow imports from `root`, without the plumbing, up to those dotted names where `ends` says so."""
    found = {name or root.stem: root}
    stops: set[str] = set()
    waiting = [(name, root)]
    while waiting:
        module, file = waiting.pop()
        for target in _imports(file, module):
            if target in found or is_plumbing(target):
                continue
            if ends(target):
                stops.add(target)
                continue
            place = _file_of(target)
            if place is not None:
                found[target] = place
                waiting.append((target, place))
    return _Reached(dict(sorted(found.items())), stops)


def _digest(modules: dict[str, Path]) -> str:
    total = hashlib.sha256()
    for module, file in modules.items():
        total.update(module.encode() + b"\0")
        total.update(hashlib.sha256(_code(file)).digest())
    return total.hexdigest()[:16]


def code_tokens(source: str) -> Iterator[str]:
    """Yield the tokens of Python code, without comments, docstrings and layout; the same on Python 3.11 to 3.13.

    A statement that is nothing but a string has no effect and counts as a docstring.
    """
    line: list[str] = []
    only_strings = True
    for text, kind in _whole_strings(source):
        if kind in (token.INDENT, token.DEDENT):
            yield _MARKS[kind]
        elif kind == token.NEWLINE:
            if line and not only_strings:
                yield from (*line, _MARKS[kind])
            line, only_strings = [], True
        else:
            line.append(text)
            only_strings = only_strings and kind == token.STRING


def _whole_strings(source: str) -> Iterator[tuple[str, int]]:
    """Yield (text, kind) of each token that is no layout; f-strings are whole."""
    lines = source.splitlines(keepends=True)
    depth, begin = 0, (0, 0)
    for found in tokenize.generate_tokens(io.StringIO(source).readline):
        if found.type in _F_STRING_BEGINS:
            depth, begin = depth + 1, begin if depth else found.start
        elif found.type in _F_STRING_ENDS:
            depth -= 1
            if depth == 0:
                yield _between(lines, begin, found.end), token.STRING
        elif depth == 0 and found.type not in _LAYOUT:
            yield found.string, found.type


def _between(lines: list[str], begin: tuple[int, int], end: tuple[int, int]) -> str:
    """Return the source between two places, each (line from 1, column)."""
    if begin[0] == end[0]:
        return lines[begin[0] - 1][begin[1] : end[1]]
    return "".join([lines[begin[0] - 1][begin[1] :], *lines[begin[0] : end[0] - 1], lines[end[0] - 1][: end[1]]])


@cache
def _code(file: Path) -> bytes:
    """Return a module's tokens, each with a zero byte after it; the bytes of a file that is no Python source."""
    data = file.read_bytes()
    if file.suffix != ".py":
        return data
    return "".join(f"{text}\0" for text in code_tokens(data.decode())).encode()


@cache
def _imports(file: Path, module: str) -> frozenset[str]:
    """Return the dotted names of what `file` may import, at its head or inside its functions."""
    if file.suffix != ".py":
        return frozenset()
    package = module if file.name == "__init__.py" else module.rpartition(".")[0]
    found: set[str] = set()
    for node in ast.walk(ast.parse(file.read_bytes(), filename=str(file))):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            above = package.split(".")[: len(package.split(".")) - node.level + 1] if node.level else []
            base = ".".join([*above, *filter(None, [node.module])])
            names = [base, *(f"{base}.{alias.name}" for alias in node.names)]
        else:
            continue
        for name in names:
            parts = name.split(".")
            # Importing a module runs the packages around it first.
            found.update(".".join(parts[:length]) for length in range(1, len(parts) + 1))
    return frozenset(found)


@cache
def _file_of(module: str) -> Path | None:
    """Return the file of a dotted module without importing anything; None for a name inside a module, or no file."""
    places: list[str] | None = [str(Path(__file__).resolve().parents[2])] if module.startswith(PACKAGE) else None
    spec = None
    for depth, name in enumerate(module.split(".")):
        if depth == 0 and name in sys.builtin_module_names:
            return None
        # By its last name alone: a namespace's whole name asks for its parent, which is not imported.
        spec = PathFinder.find_spec(name, places)
        if spec is None and depth == 0:  # what is installed to be edited may have a finder of its own
            spec = next(filter(None, (finder.find_spec(name, None) for finder in sys.meta_path)), None)
        if spec is None:
            return None
        places = list(spec.submodule_search_locations or [])
    return Path(spec.origin) if spec is not None and spec.origin and spec.has_location else None


def _top(module: str) -> str:
    return module.partition(".")[0]


@cache
def _distributions() -> dict[str, tuple[str, ...]]:
    """Return the installed distributions of each top-level package or module: several share a namespace."""
    return {top: tuple(sorted(set(named))) for top, named in metadata.packages_distributions().items()}


def _is_distributed(module: str) -> bool:
    """Return whether a module belongs to the standard library or an installed distribution, by where its file lies.

    What was merely put into the folder of packages has no version that could stand for its code.
    """
    top, file = _top(module), _file_of(module)
    if top == PACKAGE or file is None:
        return False
    return _lies_installed(file) and (top in sys.stdlib_module_names or top in _distributions())


@cache
def _is_installed(package: str) -> bool:
    """Return whether a top-level package or module belongs to the standard library or to an installed distribution."""
    file = _file_of(package)
    if file is None:
        return package in sys.builtin_module_names
    return _lies_installed(file)


def _lies_installed(file: Path) -> bool:
    folders = {Path(sysconfig.get_path(name)) for name in ("stdlib", "platstdlib", "purelib", "platlib")}
    return any(file.is_relative_to(folder) for folder in folders) or "site-packages" in file.parts
