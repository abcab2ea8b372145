"""All kinds of records, and the JSON schema that describes them."""

from __future__ import annotations

import json
from typing import Any

from pydantic.json_schema import models_json_schema

from stagebench.errors import StagebenchError
from stagebench.records.cells import DeviceRecord, EngineRecord, InferenceRecord, ValidationRecord
from stagebench.records.data import ArchiveRecord, DatasetRecord, PixelsRecord
from stagebench.records.envelope import SEAL, Record
from stagebench.records.models import ExportedRecord, SimplifiedRecord, VariantRecord, WeightsRecord
from stagebench.records.reports import ReportRecord

#: Kind -> its model, in the order in which a row's stages leave them.
KINDS: dict[str, type[Record[Any]]] = {
    model.KIND: model
    for model in (
        ArchiveRecord,
        DatasetRecord,
        PixelsRecord,
        WeightsRecord,
        ExportedRecord,
        SimplifiedRecord,
        VariantRecord,
        DeviceRecord,
        EngineRecord,
        ValidationRecord,
        InferenceRecord,
        ReportRecord,
    )
}


def format_of(kind: str) -> int:
    """Return the format number of a kind of record.

    Raises:
        StagebenchError: there is no such kind.
    """
    if kind not in KINDS:
        raise StagebenchError(f"unknown kind of record {kind!r}: there are {', '.join(KINDS)}")
    return KINDS[kind].FORMAT


def schema() -> str:
    """Return one JSON schema (draft 2020-12) for the records of all kinds; `kind` distinguishes them."""
    references, definitions = models_json_schema([(model, "serialization") for model in KINDS.values()])
    found = definitions["$defs"]
    choices = []
    for kind, model in KINDS.items():
        reference = references[model, "serialization"]["$ref"]
        fields = found[reference.rpartition("/")[2]]["properties"]
        fields["kind"] = {"const": kind}
        fields["format"] = {"const": model.FORMAT}
        fields[SEAL] = {"type": "string", "pattern": "^[0-9a-f]{64}$"}
        found[reference.rpartition("/")[2]]["required"].append(SEAL)
        choices.append({"$ref": reference})
    whole = {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "Record",
        "oneOf": choices,
        **definitions,
    }
    return json.dumps(whole, indent=1, ensure_ascii=False) + "\n"
