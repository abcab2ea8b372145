"""A row's records follow from each other, or the row is refused."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from stagebench.records.cells import EngineRecord, InferenceRecord, ValidationRecord
from stagebench.records.envelope import Record
from stagebench.vocabulary import Cell, precision

#: What validation runs.
_REFERENCE = "torch"


def broken_link(cell: Cell, paths: Mapping[str, Path], records: Mapping[str, Record[Any]]) -> str | None:
    """Return in one line where a row's records do not follow from each other; None if they do.

    Each cell's record has to be the cell's own. What a stage read has to be, by its digest, what the record of the
    stage before says it left: an input and an output with the same path are the same file.

    Args:
        cell: the row's cell, as the workflow plans it.
        paths, records: the row's records and where they are, by stage.
    """
    reference = cell.model_copy(update={"engine": _REFERENCE, "precision": precision(cell.precision).reference})
    for stage, record in records.items():
        if isinstance(record, EngineRecord | InferenceRecord | ValidationRecord):
            planned = reference if isinstance(record, ValidationRecord) else cell
            if found := record.cell.differences(planned):
                return f"{paths[stage]}: belongs to another cell ({'; '.join(found)}); {_again(paths[stage])}"
    left = {
        entry.path: (stage, entry)
        for stage, record in records.items()
        if record.ok
        for entry in record.outputs.values()
    }
    for stage, record in records.items():
        for entry in record.inputs.values():
            made_by, made = left.get(entry.path, (stage, entry))
            if made.sha256 != entry.sha256:
                return (
                    f"{paths[stage]}: does not follow from {paths[made_by]} (it was made from another {entry.path}); "
                    f"{_again(paths[stage])}"
                )
    return None


def other_settings(
    planned: Mapping[str, str], paths: Mapping[str, Path], records: Mapping[str, Record[Any]]
) -> str | None:
    """Return in one line which record was made with other settings than the config gives now; None if none was.

    Snakemake reruns such a stage, unless it was told to take what is there for current (`--touch`).

    Args:
        planned: the digest of the settings that each stage is to have been run with.
        paths, records: the row's records and where they are, by stage.
    """
    for stage, record in records.items():
        if record.settings is not None and record.settings != planned.get(stage, record.settings):
            return f"{paths[stage]}: made with other settings than the config gives now; {_again(paths[stage])}"
    return None


def _again(path: Path) -> str:
    return f"delete it and run the target {path}"
