"""Provenance of a report's figures: data sets, files with their digests, and the time that each stage took."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from stagebench.records.data import Dataset
from stagebench.records.envelope import FileEntry, Record
from stagebench.records.models import Calibration, Difference, Exported, Simplified, Variant
from stagebench.report import formatting
from stagebench.report.formatting import BLANK, seconds
from stagebench.report.rows import STAGES, Row
from stagebench.report.tables import Table

_SHORT = 16  # hexadecimal digits of a digest that a table shows; the records have all
_STEPS = {
    "dataset": "extract",
    "pixels": "decode once",
    "weights": "weights",
    "exported": "export",
    "simplified": "simplify",
    "variant": "prepare",
    "engine": "build",
    "validation": "validate",
    "inference": "infer",
}
#: Stages whose outputs are listed with their digests.
_LISTED = ("weights", "exported", "simplified", "variant", "engine")
_SPLITS = {"fit": "fitting", "val": "validation"}


@dataclass(frozen=True)
class DatasetUsed:
    """A data set that rows were measured on."""

    name: str
    found: Dataset
    archive: FileEntry | None
    manifest: str
    subset: int | None

    @property
    def archive_size(self) -> str:
        """The size of the archive."""
        return formatting.size(self.archive.bytes) if self.archive else BLANK


def stage_times(rows: Sequence[Row]) -> Table:
    """Return the wall time of every stage on each row's way, in seconds, and their sum (e2e_time)."""
    headers = ["device", "model", "engine", "precision", "bs", *(_STEPS[stage] for stage in STAGES), "sum"]
    lines = []
    for row in rows:
        taken = row.seconds()
        stages = [seconds(taken[stage]) if stage in taken else BLANK for stage in STAGES]
        lines.append([*row.cell.key, *stages, seconds(sum(taken.values()))])
    return Table.of(headers, lines, left=4)


def datasets(rows: Sequence[Row]) -> list[DatasetUsed]:
    """Return each data set of the rows once."""
    found: dict[str, DatasetUsed] = {}
    for row in rows:
        record, used = row.dataset, row.images
        if record is None or record.result is None or used is None or used.name in found:
            continue
        found[used.name] = DatasetUsed(
            name=used.name,
            found=record.result,
            archive=record.inputs.get("archive"),
            manifest=record.outputs["manifest"].sha256 or "",
            subset=used.subset,
        )
    return list(found.values())


def files(rows: Sequence[Row]) -> Table:
    """Return the files behind the rows, each once: how it compares with what it was made from, size and digest."""
    lines: dict[str, list[str]] = {}
    for row in rows:
        for stage in _LISTED:
            record = row.records.get(stage)
            if record is None or not record.ok:
                continue
            for entry in record.outputs.values():
                digest = (entry.sha256 or "")[:_SHORT]
                size = formatting.size(entry.bytes)
                lines.setdefault(entry.path, [f"`{entry.path}`", _comparison(record), size, digest])
    headers = ["file", "compared with what it was made from", "size", "sha256 (first digits)"]
    return Table.of(headers, list(lines.values()), left=2)


def _comparison(record: Record[Any]) -> str:
    """Return in a few words how a file's outputs compare with another's."""
    result = record.result
    if isinstance(result, Exported | Simplified):
        return _difference(result.compared)
    if not isinstance(result, Variant):
        return BLANK
    compared = result.compared
    text = (
        f"{compared.reference}: cosine {compared.cosine:.5f}, same top-1 {compared.top1_agreement:.1f} % "
        f"({compared.images} images)"
    )
    return text + (_calibrated(result.quantisation.calibration) if result.quantisation else "")


def _difference(compared: Difference) -> str:
    return (
        f"{compared.reference}: largest difference of a logit {compared.largest_difference:.1e} of the range "
        f"({compared.images} images)"
    )


def _calibrated(calibration: Calibration) -> str:
    kinds = " and ".join(_SPLITS[split] for split in calibration.splits)
    return f"; calibrated with {calibration.images} {kinds} images"
