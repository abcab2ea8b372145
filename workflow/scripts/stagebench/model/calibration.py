"""Calibration images, handed to ONNX Runtime's quantisation batch by batch."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from onnxruntime.quantization import CalibrationDataReader

from stagebench.dataset.manifest import calibration_rows, list_digest
from stagebench.model.batches import batches
from stagebench.model.checks import INPUT
from stagebench.records.models import Calibration

if TYPE_CHECKING:
    from pathlib import Path

    from stagebench.preprocessing import Preprocessing

_BATCH = 16
# The ranges of the embedded default's few classes have settled by then.
_FITTING_IMAGES = 16


class CalibrationImages(CalibrationDataReader):  # type: ignore[misc]
    """The fixed list of a data set's calibration images; reads a batch at a time, so that memory stays bounded."""

    def __init__(self, manifest: Path, preprocessing: Preprocessing) -> None:
        self._manifest = manifest
        self._preprocessing = preprocessing
        self.rows = calibration_rows(manifest)
        if self.rows[0].split == "fit":
            self.rows = calibration_rows(manifest, _FITTING_IMAGES)
        self.rewind()

    def rewind(self) -> None:
        """Start over: quantisation may read the images more than once."""
        self._batches = batches(self._manifest, self.rows, self._preprocessing, _BATCH)

    def get_next(self) -> dict[str, Any] | None:
        """Return the next batch as model inputs; None at the end."""
        batch = next(self._batches, None)
        return None if batch is None else {INPUT: batch}

    def describe(self) -> Calibration:
        """Return the list's entry in a record."""
        splits = tuple(sorted({row.split for row in self.rows}))
        return Calibration(images=len(self.rows), splits=splits, sha256=list_digest(self.rows))
