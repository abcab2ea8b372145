"""Plug-ins found by the name of their module in a package: a file more is an entry more."""

from __future__ import annotations

import pkgutil
from importlib import import_module
from types import ModuleType
from typing import TypeVar

from stagebench.errors import StagebenchError
from stagebench.vocabulary import nearest

Plugin = TypeVar("Plugin")


def names(package: ModuleType, without: frozenset[str] = frozenset()) -> list[str]:
    """Return the names of a package's modules, sorted, but for those that are no plug-ins."""
    found = (module.name for module in pkgutil.iter_modules(package.__path__))
    return sorted(name for name in found if name not in without and not name.startswith("_"))


def load(module: str, attribute: str, kind: type[Plugin]) -> Plugin:
    """Return what a module defines as `attribute`.

    Raises:
        StagebenchError: the module cannot be imported, or defines no such thing of that kind.
    """
    try:
        found = getattr(import_module(module), attribute, None)
    except ImportError as error:
        raise StagebenchError(f"module {module!r} cannot be imported ({' '.join(str(error).split())})") from error
    if not isinstance(found, kind):
        where = f"{kind.__module__}.{kind.__qualname__}"
        raise StagebenchError(f"module {module!r}: {attribute} has to be an instance of {where}")
    return found


def choose(package: ModuleType, name: str, attribute: str, kind: type[Plugin], what: str) -> Plugin:
    """Return the plug-in of that name in a package.

    Args:
        what: what it is called in errors, such as "protocol".

    Raises:
        StagebenchError: there is no such plug-in.
    """
    known = names(package)
    if name not in known:
        raise StagebenchError(f"unknown {what} {name!r}{nearest(name, known)}")
    return load(f"{package.__name__}.{name}", attribute, kind)
