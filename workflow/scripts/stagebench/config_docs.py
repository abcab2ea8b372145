"""Write what is generated from the config's models: the JSON schema and the tables of config/README.md.

Run as `make schema`. A test compares both with what stands in the repository.
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
    Archive,
    Cases,
    Config,
    Dataset,
    Device,
    Expected,
    Measurement,
    Model,
    Preprocessing,
    Report,
    TensorRTOptions,
    Weights,
)
from stagebench.records import replacing

SCHEMA = Path("workflow/schemas/config.schema.json")
README = Path("config/README.md")

# The sections in the order of the file, with the key under which each stands.
_SECTIONS: list[tuple[str, type[BaseModel]]] = [
    ("cases", Cases),
    ("devices.NAME", Device),
    ("models.NAME", Model),
    ("models.NAME.weights", Weights),
    ("models.NAME.preprocessing", Preprocessing),
    ("models.NAME.expected", Expected),
    ("datasets.NAME", Dataset),
    ("datasets.NAME.archive", Archive),
    ("engines.tensorrt, engines.tensorrt_rtx", TensorRTOptions),
    ("measurement", Measurement),
    ("report", Report),
]

_HEAD = """\
# Configuration

`config.yaml` is the embedded default: it runs on any machine. `imagenet.yaml` is laid over it for the real benchmark:

    snakemake results/report.md --cores 8 --configfile config/imagenet.yaml

A file given by `--configfile` overlays the default: dictionaries merge deeply, lists are replaced. So where both are
present a local `file` or `path` wins over `url`, and a checksum stays unless it is overridden. Targets stand before
`--configfile`, which takes every word that follows it for a file.

Unknown keys, wrong types and cells that name something unknown end the run before any job starts, with one line that
names the key.

The tables below are generated from the models in `workflow/scripts/stagebench/config.py` by `make schema`, and so is
`workflow/schemas/config.schema.json`, which editors use to check and complete a config file.
"""


def schema() -> str:
    """Return the JSON schema (draft 2020-12) of the configuration."""
    return json.dumps(Config.model_json_schema(), indent=1, ensure_ascii=False) + "\n"


def readme() -> str:
    """Return config/README.md."""
    parts = [_HEAD]
    for key, section in _SECTIONS:
        parts.append(f"\n## `{key}`\n\n{(section.__doc__ or '').strip().splitlines()[0]}\n")
        rows = [("key", "type", "default", "meaning"), ("---", "---", "---", "---")]
        for name, field in section.model_fields.items():
            default = "required" if field.default is PydanticUndefined else f"`{json.dumps(_plain(field.default))}`"
            rows.append((f"`{name}`", _type_of(field.annotation), default, field.description or ""))
        parts.append("\n" + "\n".join("| " + " | ".join(row) + " |" for row in rows) + "\n")
    return "".join(parts)


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
    """Write both files below the current folder."""
    for path, text in ((SCHEMA, schema()), (README, readme())):
        with replacing(path) as part:
            part.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
