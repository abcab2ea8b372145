"""Validation: the model in torch, the reference, measured in the same way as an engine."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path

from stagebench.engines import registry
from stagebench.engines.build import BuildFiles, BuildSettings, build_engine
from stagebench.measure.cell import CellFiles, CellSettings, ImageFiles, measure_cell
from stagebench.records.cells import DeviceRecord, ValidationRecord
from stagebench.vocabulary import precision


class ValidationSettings(CellSettings):
    """Settings of a validation run, from the config; its cell's engine is torch."""

    #: Importable callable, "package.module.callable".
    architecture: str


@dataclass(frozen=True)
class ValidationFiles:
    """The files of a validation run."""

    weights: Path
    weights_record: Path
    device_record: Path
    images: ImageFiles
    record: Path
    samples: Path
    #: Torch's engine file and its record.
    engine: Path
    build_record: Path


def measure_validation(
    settings: ValidationSettings, files: ValidationFiles, tries_left: int = 0, timeout_s: float = math.inf
) -> None:
    """Measure the model in torch and write its record and its raw samples.

    Torch's engine file is the checkpoint with its settings. The rule says that neither it nor its record stays: a copy
    of the weights for each precision and batch size would be of no use.

    Args:
        tries_left: how often a scheduler would try again with more memory.
        timeout_s: seconds without progress after which a child is ended.

    Raises:
        StagebenchError: this machine is not the device's; memory ran out and there are tries left.
    """
    device = DeviceRecord.read(files.device_record)
    asked = precision(settings.cell.precision)
    if device.ok and registry.get("torch").support(asked, device.found.identity).ok:
        # Imported once for both children, which are forked: nothing computes here.
        import torchvision  # noqa: F401
    build = BuildSettings(
        cell=settings.cell,
        module=None,
        architecture=settings.architecture,
        preprocessing=settings.preprocessing,
        options={},
    )
    build_files = BuildFiles(files.weights, files.weights_record, files.device_record, files.engine, files.build_record)
    build_engine(build, build_files, tries_left, timeout_s)
    cell_files = CellFiles(
        files.engine, files.build_record, files.device_record, files.images, files.record, files.samples
    )
    measure_cell(ValidationRecord, settings, cell_files, tries_left, timeout_s)
