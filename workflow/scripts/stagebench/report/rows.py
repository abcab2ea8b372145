"""A row of the report and the records on its way from the archive to the measured figures."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple, TypedDict, TypeVar

from stagebench.errors import StagebenchError
from stagebench.records.cells import EngineRecord, InferenceRecord, Measured, Metrics, ValidationRecord
from stagebench.records.data import DatasetRecord, PixelsRecord
from stagebench.records.envelope import Record
from stagebench.records.models import ExportedRecord, SimplifiedRecord, VariantRecord, WeightsRecord
from stagebench.vocabulary import Cell

#: The stages of a row in pipeline order, by the kind of their records. The archive before them is a download.
STAGES: dict[str, type[Record[Any]]] = {
    record.KIND: record
    for record in (
        DatasetRecord,
        PixelsRecord,
        WeightsRecord,
        ExportedRecord,
        SimplifiedRecord,
        VariantRecord,
        EngineRecord,
        ValidationRecord,
        InferenceRecord,
    )
}
_Kind = TypeVar("_Kind", bound=Record[Any])


class RowFiles(NamedTuple):
    """A cell and the paths of its records, by stage; a stage that the cell does not need is absent."""

    cell: Cell
    records: Mapping[str, Path]


class PlannedRow(TypedDict):
    """A row as the workflow plans it: the cell's fields, and the path of each stage's record or None."""

    cell: dict[str, str | int]
    records: dict[str, str | None]


def row_files(rows: Iterable[PlannedRow], inputs: Iterable[str]) -> list[RowFiles]:
    """Return rows with the paths of their records as the job finds them: a storage provider keeps copies elsewhere.

    Args:
        rows: as the workflow plans them.
        inputs: the same paths, each once and in the same order, as Snakemake gives them to the job.

    Raises:
        StagebenchError: a row names an unknown stage, or no inference record.
    """
    rows = list(rows)
    planned = dict.fromkeys(path for row in rows for path in row["records"].values() if path)
    here = {name: Path(path) for name, path in zip(planned, map(str, inputs), strict=True)}
    found = []
    for row in rows:
        unknown = sorted(set(row["records"]) - set(STAGES))
        if unknown:
            raise StagebenchError(f"report: unknown stage {unknown[0]!r} in a row; known: {', '.join(STAGES)}")
        paths = {stage: here[path] for stage, path in row["records"].items() if path}
        if InferenceRecord.KIND not in paths:
            raise StagebenchError(f"report: the row {dict(row['cell'])} names no inference record")
        found.append(RowFiles(Cell.model_validate(row["cell"]), paths))
    return found


@dataclass(frozen=True)
class Row:
    """One cell with the records of its stages."""

    cell: Cell
    paths: Mapping[str, Path]
    records: Mapping[str, Record[Any]]

    def _of(self, kind: type[_Kind]) -> _Kind | None:
        found = self.records.get(kind.KIND)
        return found if isinstance(found, kind) else None

    @property
    def inference(self) -> InferenceRecord:
        """The record of the engine's run."""
        found = self._of(InferenceRecord)
        if found is None:
            raise StagebenchError(f"report: the row {self.cell.key} names no inference record")
        return found

    @property
    def validation(self) -> ValidationRecord | None:
        """The record of the reference's run; None if the row names none."""
        return self._of(ValidationRecord)

    @property
    def engine(self) -> EngineRecord | None:
        """The record of the engine's build; None if the row names none."""
        return self._of(EngineRecord)

    @property
    def dataset(self) -> DatasetRecord | None:
        """The record of the data set; None if the row names none."""
        return self._of(DatasetRecord)

    @property
    def ok(self) -> bool:
        """Whether the row was measured."""
        return self.inference.ok

    @property
    def status(self) -> str:
        """The row's state: that of its inference record."""
        return self.inference.status.value

    @property
    def reason(self) -> str:
        """One line that says why the row has no figures; empty if it has."""
        return " ".join((self.inference.reason or "").split())

    @property
    def run(self) -> Measured | None:
        """The engine's run; None if it was not measured."""
        return self.inference.result

    @property
    def reference(self) -> Metrics | None:
        """The figures of the framework's run; None if there are none."""
        return self.validation.result.metrics if self.validation and self.validation.result else None

    def seconds(self) -> dict[str, float]:
        """Return each stage's own wall time in seconds; weights that were only fetched are left out."""
        return {stage: record.wall_s for stage, record in self.records.items() if not was_fetched(record)}

    def note(self) -> str:
        """Return in a few words what a reader of the row has to know; the reason if it was not measured."""
        if not self.ok:
            return self.reason
        notes = []
        if self.validation and not self.validation.ok:
            notes.append(
                f"validation {self.validation.status.value}: {' '.join((self.validation.reason or '').split())}"
            )
        elif self.validation and self.validation.cell.precision != self.cell.precision:
            notes.append(f"validated against {self.validation.cell.precision}")
        if self.inference.dataset and self.inference.dataset.subset:
            notes.append(f"subset of {self.inference.dataset.subset} images")
        return "; ".join(notes)


def was_fetched(record: Record[Any]) -> bool:
    """Return whether a record is of weights that were downloaded or copied rather than made."""
    return isinstance(record, WeightsRecord) and record.result is not None and record.result.fetched


def load_rows(rows: Sequence[RowFiles]) -> list[Row]:
    """Read the records of every row, each file once.

    Raises:
        StagebenchError: a record is missing, damaged, of another kind or of another format.
    """
    seen: dict[Path, Record[Any]] = {}
    loaded = []
    for row in rows:
        paths = {stage: row.records[stage] for stage in STAGES if stage in row.records}
        for stage, path in paths.items():
            if path not in seen:
                seen[path] = STAGES[stage].read(path)
        loaded.append(Row(row.cell, paths, {stage: seen[path] for stage, path in paths.items()}))
    return loaded
