"""Write what is generated from models: the JSON schemas of config and records, and the tables of config/README.md.

Run as `make schema`. A test compares them with the files in the repository.
"""

from __future__ import annotations

import json
import types
import typing
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel
from pydantic_core import PydanticUndefined

from stagebench.config import (
    UNDOCUMENTED,
    Archive,
    Cases,
    Config,
    Dataset,
    Device,
    Measurement,
    Model,
    Pathvars,
    Prepared,
    Preprocessing,
    Weights,
)
from stagebench.engines import registry
from stagebench.quantisation import QuantisationSettings
from stagebench.records import kinds
from stagebench.records.io import write_text

SCHEMA = Path("workflow/schemas/config.schema.json")
RECORDS = Path("workflow/schemas/records.schema.json")
README = Path("config/README.md")


def _sections() -> list[tuple[str, str, list[type[BaseModel]]]]:
    """Return the sections in the order of the file: key, what it is, and the models of its keys."""
    sections: list[tuple[str, type[BaseModel]]] = [
        ("cases", Cases),
        ("devices.NAME", Device),
        ("models.NAME", Model),
        ("models.NAME.weights", Weights),
        ("models.NAME.preprocessing", Preprocessing),
        ("models.NAME.quantization", QuantisationSettings),
        ("models.NAME.prepared.PRECISION", Prepared),
        ("datasets.NAME", Dataset),
        ("datasets.NAME.archive", Archive),
        ("measurement", Measurement),
        ("pathvars", Pathvars),
    ]
    found = [(key, _first_line(section), [section]) for key, section in sections]
    for name in registry.names():
        engine = registry.get(name)
        models: list[type[BaseModel]] = [engine.build_options, engine.run_options]
        if any(model.model_fields for model in models):
            found.append((f"engines.{name}", "Options of the engine.", models))
            found += [
                (f"engines.{name}.{key}", _first_line(nested), [nested])
                for model in models
                for key, field in model.model_fields.items()
                for nested in typing.get_args(field.annotation)
                if isinstance(nested, type) and issubclass(nested, BaseModel)
            ]
    return found


def _first_line(section: type[BaseModel]) -> str:
    return (section.__doc__ or "").strip().splitlines()[0]


_HEAD = """\
# Configuration

`config.yaml` is the embedded default: it runs on any machine. `imagenet.yaml` overlays it for the real benchmark:

    snakemake results/report.md --cores 8 --configfile config/imagenet.yaml

A file given by `--configfile` overlays the default: dictionaries merge deeply, lists are replaced. So if both are
present, a local `file` or `path` wins over `url`, and a checksum stays unless it is overridden. Targets come before
`--configfile`, which takes every word that follows it for a file.

Unknown keys, wrong types and cells with unknown names end the run before any job starts, with one line that names the
key.

The tables below are generated from the models in `workflow/scripts/stagebench/config.py` and of the engines by
`make schema`, and so is `workflow/schemas/config.schema.json`, which editors use to check and complete a config file.
"""

_FOOT = """
## Engines of your own

An engine that is not of this package is named with its module, installed or on `PYTHONPATH`, and its own options:

    engines: {mychip: {module: mypackage.mychip, threads: 4}}
    cases: {engines: [mychip]}

[docs/adding-an-engine.md](../docs/adding-an-engine.md) goes through a complete example.

## Several configs side by side

`pathvars` gives each config folders of its own; data sets and weights are shared unless they are moved, too:

    pathvars: {results: results/one, logs: logs/one}

Targets on the command line are real paths: `snakemake results/one/report.md --configfile one.yaml`.
"""


def schema() -> str:
    """Return the JSON schema (draft 2020-12) of the configuration."""
    made = Config.model_json_schema()
    options = {}
    for name in registry.names():
        engine = registry.get(name)
        properties: dict[str, Any] = {}
        for model in (engine.build_options, engine.run_options):
            part = model.model_json_schema(ref_template="#/$defs/{model}")
            made["$defs"].update(part.pop("$defs", {}))
            properties |= part.get("properties", {})
        options[name] = {"type": "object", "properties": properties, "additionalProperties": False}
    outside = {"module": {"type": "string", "description": "Importable module that defines the engine."}}
    made["properties"]["engines"] |= {
        "properties": options,
        "additionalProperties": {"type": "object", "properties": outside, "required": ["module"]},
    }
    return json.dumps(made, indent=1, ensure_ascii=False) + "\n"


def readme() -> str:
    """Return config/README.md."""
    parts = [_HEAD]
    for key, title, models in _sections():
        parts.append(f"\n## `{key}`\n\n{title}\n")
        rows = [("key", "type", "default", "meaning"), ("---", "---", "---", "---")]
        for name, field in [entry for model in models for entry in model.model_fields.items()]:
            if isinstance(field.json_schema_extra, dict) and UNDOCUMENTED in field.json_schema_extra:
                continue
            default = "required" if field.default is PydanticUndefined else f"`{json.dumps(_plain(field.default))}`"
            rows.append((f"`{name}`", _type_of(field.annotation), default, field.description or ""))
        parts.append("\n" + "\n".join("| " + " | ".join(row) + " |" for row in rows) + "\n")
    return "".join([*parts, _FOOT])


def _plain(value: Any) -> Any:
    return value.model_dump(mode="json") if isinstance(value, BaseModel) else value


def _type_of(annotation: Any) -> str:
    """Describe a type as a reader of YAML would call it."""
    origin, arguments = typing.get_origin(annotation), typing.get_args(annotation)
    if origin is typing.Annotated:
        return _type_of(arguments[0])
    if origin is Literal:
        return " or ".join(f"`{argument}`" for argument in arguments)
    if origin in (typing.Union, types.UnionType):
        return " or ".join(_type_of(argument) for argument in arguments)
    if origin is list:
        return f"list of {_type_of(arguments[0])}"
    if origin is tuple:
        return f"{len(arguments)} {_type_of(arguments[0])}s"
    names = {str: "text", int: "integer", float: "number", bool: "true or false", type(None): "null"}
    return names.get(annotation, "section")


def main() -> None:
    """Write the files below the current folder."""
    for path, text in ((SCHEMA, schema()), (RECORDS, kinds.schema()), (README, readme())):
        write_text(path, text)


if __name__ == "__main__":
    main()
