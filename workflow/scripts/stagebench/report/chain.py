"""A row of the report and the records on its way from the archive to the measured figures."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from stagebench.records import StagebenchError, read_record

#: The stages of a row in the order of the data's way; the archive comes before them and is a download.
STAGES = (
    "dataset",
    "pixels",
    "weights",
    "exported",
    "simplified",
    "variant",
    "engine",
    "validation",
    "inference",
)
#: What names a row, in the order of the result paths.
CELL = ("device", "model", "engine", "precision", "batch")

Record = Mapping[str, Any]


@dataclass(frozen=True)
class Row:
    """One cell with the records of its stages; a stage that the row does not need is absent."""

    cell: Mapping[str, Any]
    paths: Mapping[str, Path]
    records: Mapping[str, Record]

    @property
    def key(self) -> tuple[str, ...]:
        """Name the row by its cell: device, model, engine, precision, batch size, all as text."""
        return tuple(str(self.cell[name]) for name in CELL)

    @property
    def status(self) -> str:
        """Return the row's state: that of its inference record."""
        return str(self.records["inference"]["status"])

    @property
    def reason(self) -> str:
        """Return in one line why the row has no figures; empty where it has."""
        return " ".join(str(self.records["inference"].get("reason") or "").split())

    @property
    def ok(self) -> bool:
        """Say whether the row was measured."""
        return self.status == "ok"

    @property
    def metrics(self) -> Mapping[str, Any]:
        """Return the metrics of the engine's run; empty where it was not measured."""
        return self.records["inference"]["metrics"] if self.ok else {}

    @property
    def reference(self) -> Mapping[str, Any]:
        """Return the metrics of the framework's run that the row is held against; empty if there are none."""
        validation = self.records.get("validation", {})
        return validation["metrics"] if validation.get("status") == "ok" else {}

    @property
    def reference_precision(self) -> str:
        """Return the precision that the framework computed in (fp32 for int8 rows); empty if unknown."""
        return str(self.records.get("validation", {}).get("cell", {}).get("precision", ""))

    def seconds(self) -> dict[str, float]:
        """Return each stage's own wall time in seconds; weights that were only fetched are left out."""
        return {stage: float(record["wall_s"]) for stage, record in self.records.items() if not was_fetched(record)}

    def note(self) -> str:
        """Say in a few words what a reader of the row has to know; the reason where it was not measured."""
        if not self.ok:
            return self.reason
        notes = []
        validation = self.records.get("validation", {})
        if validation and validation["status"] != "ok":
            notes.append(f"validation {validation['status']}: {' '.join(str(validation['reason']).split())}")
        elif self.reference_precision not in ("", self.cell["precision"]):
            notes.append(f"validated against {self.reference_precision}")
        dataset = self.records["inference"].get("dataset", {})
        if dataset.get("subset"):
            notes.append(f"subset of {dataset['subset']} images")
        return "; ".join(notes)


def was_fetched(record: Record) -> bool:
    """Say whether a record tells of a file that was downloaded or copied rather than made."""
    return bool(record.get("fetched", False))


def load_rows(rows: Iterable[Mapping[str, Any]]) -> list[Row]:
    """Read the records of every row, each file once.

    Args:
        rows: {"cell": {device, model, engine, precision, batch}, "records": {stage: path or None}} per row.

    Raises:
        StagebenchError: a record is missing or damaged, or a row names no inference record.
    """
    seen: dict[str, Record] = {}
    loaded = []
    for row in rows:
        unknown = set(row["records"]) - set(STAGES)
        if unknown:
            raise StagebenchError(f"report: unknown stage {sorted(unknown)[0]!r} in a row; known: {', '.join(STAGES)}")
        given = {stage: row["records"].get(stage) for stage in STAGES}
        paths = {stage: Path(path) for stage, path in given.items() if path is not None}
        if "inference" not in paths:
            raise StagebenchError(f"report: the row {dict(row['cell'])} names no inference record")
        for path in paths.values():
            if str(path) not in seen:
                seen[str(path)] = read_record(path)
        records = {stage: seen[str(path)] for stage, path in paths.items()}
        loaded.append(Row(cell=row["cell"], paths=paths, records=records))
    return loaded
