"""The registry of engines: one file each, found by name and imported when asked for."""

from __future__ import annotations

import pkgutil
from importlib import import_module

from stagebench.engines.base import Engine
from stagebench.records import StagebenchError

# Modules of this folder that are shared by engines, not engines.
_SHARED = frozenset({"base", "build", "cuda"})


def names() -> list[str]:
    """Return the names of all engines, sorted: the files of this folder that are not shared modules."""
    found = (module.name for module in pkgutil.iter_modules(__path__))
    return sorted(name for name in found if name not in _SHARED and not name.startswith("_"))


def get(name: str) -> Engine:
    """Return the engine of that name.

    Raises:
        StagebenchError: there is no such engine, or its file defines no `ENGINE`.
    """
    if name not in names():
        raise StagebenchError(f"unknown engine {name!r}: there are {', '.join(names())}")
    engine = getattr(import_module(f"{__name__}.{name}"), "ENGINE", None)
    if not isinstance(engine, Engine):
        raise StagebenchError(f"engines/{name}.py: ENGINE has to be an instance of stagebench.engines.base.Engine")
    return engine
