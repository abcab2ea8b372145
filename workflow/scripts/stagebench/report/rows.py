"""A row of the report and the records on its way from the archive to the measured figures."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple, TypedDict, TypeVar

from stagebench.errors import StagebenchError
from stagebench.records.cells import EngineRecord, ImagesUsed, InferenceRecord, Measured, Metrics, ValidationRecord
from stagebench.records.data import DatasetRecord, PixelsRecord
from stagebench.records.envelope import Record
from stagebench.records.models import ExportedRecord, SimplifiedRecord, VariantRecord, WeightsRecord
from stagebench.report.lineage import broken_link, other_settings
from stagebench.vocabulary import AGAIN, Cell, State, failed

_log = logging.getLogger(__name__)

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
    """A cell and the paths of its records, by stage; a stage that the cell does not need is absent.

    `settings` are the digests of the settings that the stages are to have been run with, as far as they are known.
    """

    cell: Cell
    records: Mapping[str, Path]
    settings: Mapping[str, str] = MappingProxyType({})


class PlannedRow(TypedDict):
    """A row as the workflow plans it: the cell's fields, and by stage the record's path or None and the settings."""

    cell: dict[str, str | int]
    records: dict[str, str | None]
    settings: dict[str, str]


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
        found.append(RowFiles(Cell.model_validate(row["cell"]), paths, row["settings"]))
    return found


@dataclass(frozen=True)
class Row:
    """One cell with the records of its stages; a refused row has none."""

    cell: Cell
    paths: Mapping[str, Path]
    records: Mapping[str, Record[Any]]
    #: Why its records cannot be shown, in one line; None if they can.
    refusal: str | None = None

    def _of(self, kind: type[_Kind]) -> _Kind | None:
        found = self.records.get(kind.KIND)
        return found if isinstance(found, kind) else None

    @property
    def inference(self) -> InferenceRecord | None:
        """The record of the engine's run; None if the row is refused."""
        return self._of(InferenceRecord)

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
        return self.run is not None

    @property
    def state(self) -> State:
        """The row's state: that of its inference record, or "failed" if it is refused."""
        return self.inference.state if self.inference else failed(self.refusal or "no inference record")

    @property
    def status(self) -> str:
        """The status of the row's state."""
        return self.state.status.value

    @property
    def reason(self) -> str:
        """One line that says why the row has no figures; empty if it has."""
        return " ".join(self.state.reason.split())

    @property
    def stage(self) -> str:
        """The stage in which the row's state arose."""
        return (self.inference.origin or self.inference.kind) if self.inference else "report"

    @property
    def run(self) -> Measured | None:
        """The engine's run; None if it was not measured."""
        return self.inference.result if self.inference else None

    @property
    def images(self) -> ImagesUsed | None:
        """The images that it was measured on; None where the data set could not be read."""
        return self.inference.dataset if self.inference else None

    def again(self) -> str | None:
        """Return the option that makes Snakemake try the row again; None where that would change nothing."""
        place = self.paths.get(self.stage)
        return f"-R {place}" if place and self.state.status in AGAIN else None

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
        if self.images and self.images.subset:
            notes.append(f"subset of {self.images.subset} images")
        return "; ".join(notes)


def was_fetched(record: Record[Any]) -> bool:
    """Return whether a record is of weights that were downloaded or copied rather than made."""
    return isinstance(record, WeightsRecord) and record.result is not None and record.result.fetched


def load_rows(rows: Sequence[RowFiles]) -> list[Row]:
    """Read the records of every row, each file once.

    A row is refused if one of its records is missing, damaged, edited, of another kind or of another format, or if its
    records do not follow from each other; the others are shown.
    """
    read = cache(lambda stage, path: STAGES[stage].read(path))
    loaded = []
    for row in rows:
        paths = {stage: row.records[stage] for stage in STAGES if stage in row.records}
        records: dict[str, Record[Any]] = {}
        try:
            records = {stage: read(stage, path) for stage, path in paths.items()}
            refusal = other_settings(row.settings, paths, records) or broken_link(row.cell, paths, records)
        except StagebenchError as error:
            refusal = str(error)
        if refusal:
            _log.warning("refused a row: %s", refusal)
        loaded.append(Row(row.cell, paths, {} if refusal else records, refusal))
    return loaded
