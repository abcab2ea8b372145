"""A checkpoint from its address or from the disk, checked."""

from __future__ import annotations

from pathlib import Path

from stagebench.dataset.download import copy, fetch
from stagebench.dataset.transfer import without_credentials
from stagebench.model.architecture import load_module
from stagebench.records.envelope import FileEntry, Stopwatch
from stagebench.records.failures import failure_recorded
from stagebench.records.io import versions
from stagebench.records.models import Weights, WeightsRecord


def fetch_weights(
    weights: Path,
    record: Path,
    *,
    url: str | None,
    file: str | None,
    sha256: str | None,
    architecture: str,
) -> None:
    """Bring a checkpoint to `weights`, check its SHA-256 and that it belongs to the architecture.

    Args:
        file: local checkpoint; wins over `url`.
        sha256: expected digest; None for a file that is taken as it is.

    If the file is missing, has another digest or belongs to another architecture, the record has the state "failed".

    Raises:
        UnrecordedError: the network or the disk failed.
    """
    watch = Stopwatch()
    with failure_recorded(WeightsRecord, record, watch, outputs={"weights": weights}):
        if file is not None:
            copy(Path(file).expanduser(), weights, algorithm="sha256", expected=sha256)
        elif url is not None:
            fetch(url, weights, algorithm="sha256", expected=sha256)
        load_module(architecture, weights)
        WeightsRecord.make(
            watch,
            result=Weights(
                fetched=True,
                source=file or without_credentials(url or ""),
                architecture=architecture,
                fitting_images=None,
            ),
            outputs={"weights": FileEntry.of(weights)},
            versions=versions("torch"),
        ).write(record)
