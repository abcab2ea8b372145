"""Engines by name: those of this package, and those that a config names by their module."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from typing import NamedTuple

from pydantic import JsonValue, ValidationError

from stagebench import engines, registry
from stagebench.engines.base import Engine, Options
from stagebench.errors import StagebenchError
from stagebench.vocabulary import nearest

# Modules of this package that are shared by engines, not engines.
_SHARED = frozenset({"base", "build", "cpu", "cuda", "ownership", "registry"})
#: The key of an engine's section that names its module.
MODULE = "module"


class EngineOptions(NamedTuple):
    """An engine's options, checked and with their defaults, as its two stages take them."""

    build: Options
    run: Options


def names() -> list[str]:
    """Return the names of the engines of this package, sorted."""
    return registry.names(engines, without=_SHARED)


def module_of(name: str, module: str | None = None) -> str:
    """Return the dotted name of an engine's module: `module`, or the one of this package.

    Raises:
        StagebenchError: this package has no such engine, and no module was named.
    """
    if module is not None:
        return module
    if name not in names():
        raise StagebenchError(f"unknown engine {name!r}{nearest(name, names())}")
    return f"{engines.__name__}.{name}"


@cache
def get(name: str, module: str | None = None) -> Engine:
    """Return the engine of that name.

    Args:
        module: importable module that defines it; None for an engine of this package.

    Raises:
        StagebenchError: there is no such engine, or its module defines no `ENGINE`.
    """
    return registry.load(module_of(name, module), "ENGINE", Engine)


def options(engine: Engine, section: Mapping[str, JsonValue]) -> EngineOptions:
    """Check an engine's section of the config, without the key `module`.

    Raises:
        StagebenchError: a key is unknown, or a value impossible; the text begins with the key.
    """
    given = {key: value for key, value in section.items() if key != MODULE}
    known = {**engine.build_options.model_fields, **engine.run_options.model_fields}
    for key in given:
        if key not in known:
            raise StagebenchError(f"{key}: unknown key{nearest(key, [MODULE, *known])}")
    parts = []
    for model in (engine.build_options, engine.run_options):
        try:
            parts.append(
                model.model_validate({key: value for key, value in given.items() if key in model.model_fields})
            )
        except ValidationError as error:
            first = error.errors()[0]
            where = ".".join(map(str, first["loc"]))
            text = str(first["ctx"]["error"]) if first["type"] == "value_error" else first["msg"]
            raise StagebenchError(f"{where}: {text[:1].lower()}{text[1:]} (found {first['input']!r})") from None
    return EngineOptions(*parts)
