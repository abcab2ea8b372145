"""Measuring one cell: its engine is opened in a process of its own, run, and its outcome recorded."""

from __future__ import annotations

import json
import math
import os
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from pydantic import Field, JsonValue

from stagebench.dataset.decode import resample
from stagebench.dataset.intact import require_intact
from stagebench.dataset.manifest import ManifestRow, list_digest, remedy, validation_rows
from stagebench.engines import registry
from stagebench.engines.base import Options
from stagebench.engines.ownership import built_ahead_of_time, require_cell
from stagebench.errors import StagebenchError, UnrecordedError
from stagebench.host import cpus, gpu_state, identity, lock
from stagebench.host.environment import environment
from stagebench.job import pulse, supervise
from stagebench.measure import accuracy, staging, summary
from stagebench.measure.feeding import Files
from stagebench.measure.protocol import Bench, protocol, scenario
from stagebench.measure.staging import Location
from stagebench.preprocessing import Preprocessing
from stagebench.records.cells import (
    CellRecord,
    DeviceRecord,
    EngineRecord,
    ImagesUsed,
    InferenceRecord,
    Measured,
    RunSettings,
    Startup,
)
from stagebench.records.data import DatasetRecord, PixelsRecord
from stagebench.records.envelope import Failure, FileEntry, Record, Stopwatch, Value
from stagebench.records.io import versions
from stagebench.vocabulary import OK, Cell, RefusedError, State, failed


class DevicePolicy(Value):
    """Permissions of timed jobs on a device."""

    #: Folder on the machine's own disk to copy images to and read them from; null to read them in place.
    local_scratch: str | None = None
    #: Whether they may share a machine, each with a GPU and CPUs of its own.
    share_node: bool = False


class CellSettings(Value):
    """Settings of a cell's run, from the config."""

    cell: Cell
    #: Module of an engine that is not of this package; null for one that is.
    module: str | None = None
    preprocessing: Preprocessing
    #: How many validation images are used; null for all.
    subset: int | None = None
    policy: DevicePolicy = DevicePolicy()
    protocol: str = "stagebench"
    scenario: str = "offline"
    repeats: int = 1
    #: Passes over decoded images; 0 for none.
    cached_repeats: int = 1
    #: The engine's section of the config.
    options: dict[str, JsonValue] = Field({})


@dataclass(frozen=True)
class ImageFiles:
    """A data set's files. `pixels` and its record are None if decoded images are not kept."""

    manifest: Path
    dataset_record: Path
    pixels: Path | None = None
    pixels_record: Path | None = None


@dataclass(frozen=True)
class CellFiles:
    """The files of a cell's run."""

    engine: Path
    build_record: Path
    device_record: Path
    images: ImageFiles
    record: Path
    samples: Path


def measure_inference(
    settings: CellSettings, files: CellFiles, tries_left: int = 0, timeout_s: float = math.inf
) -> None:
    """Measure a built engine over a data set and write its record and its raw samples.

    Whatever keeps the cell from being measured becomes the record's status and reason: the state of a record that it
    needs, a library's refusal, the death of the process that runs it.

    Args:
        tries_left: how often a scheduler would try again with more memory.
        timeout_s: seconds without progress after which the process that runs it is ended.

    Raises:
        UnrecordedError: this machine is not the device's, an artifact does not belong to the cell or is not what its
            record describes, or memory ran out and there are tries left.
    """
    measure_cell(InferenceRecord, settings, files, tries_left, timeout_s)


def measure_cell(
    kind: type[CellRecord], settings: CellSettings, files: CellFiles, tries_left: int, timeout_s: float
) -> None:
    """Measure a cell in a child process that has the machine, or its part of it, to itself; record the outcome.

    Arguments and errors are those of `measure_inference`.
    """
    run = _Run.prepared(kind, settings, files)
    with lock.share() if settings.policy.share_node else lock.machine():
        watch = Stopwatch()
        state, origin, failure = run.obstacle()
        if state.ok:
            identity.require_same(run.device, files.device_record, timed=True)
            location = _location(run, settings.policy.local_scratch)
            run.verify(location)
            try:
                ended = supervise.run(
                    _measure_here,
                    timeout_s=timeout_s,
                    makes=(files.samples, files.record),
                    run=run,
                    location=location,
                    watch=watch,
                )
            except RefusedError as error:
                state = error.state
            except UnrecordedError:
                raise
            except StagebenchError as error:
                state = failed(str(error))
            else:
                if ended is None:
                    return
                ended.raise_if_worth_another_try(tries_left)
                state, failure = ended.state, ended.failure
        summary.write_samples(files.samples, {})
        run.record(watch, state=state, origin=origin, failure=failure)


@dataclass(frozen=True)
class _Run:
    """A cell with its records, read and checked, and the images that it is measured on."""

    kind: type[CellRecord]
    settings: CellSettings
    files: CellFiles
    built: EngineRecord
    device: DeviceRecord
    dataset: DatasetRecord
    pixels: PixelsRecord | None
    rows: Sequence[ManifestRow]

    @classmethod
    def prepared(cls, kind: type[CellRecord], settings: CellSettings, files: CellFiles) -> _Run:
        """Read the records; raise if the engine was built for another cell."""
        images = files.images
        built = EngineRecord.read(files.build_record)
        require_cell(files.engine, built.cell, settings.cell)
        dataset = DatasetRecord.read(images.dataset_record)
        return cls(
            kind=kind,
            settings=settings,
            files=files,
            built=built,
            device=DeviceRecord.read(files.device_record),
            dataset=dataset,
            pixels=PixelsRecord.read(images.pixels_record) if images.pixels_record else None,
            rows=validation_rows(images.manifest, settings.subset) if dataset.ok else (),
        )

    def obstacle(self) -> tuple[State, str | None, Failure | None]:
        """Return the first state that keeps the cell from being measured, the record it comes from, and its failure."""
        sources: list[Record[Any]] = [self.device, self.built, self.dataset, *([self.pixels] if self.pixels else [])]
        for source in sources:
            if not source.ok:
                return source.state, source.origin or source.kind, source.failure
        known = self.device.found.identity
        if not known.present:
            return built_ahead_of_time(identity.describe(known)), None, None
        return OK, None, None

    def verify(self, location: Location) -> None:
        """Compare what is about to be read with the records: engine, manifest, images, decoded pixels.

        Raises:
            ChangedError: something has changed since.
        """
        images = self.files.images
        self.built.artifact("engine", self.files.engine).verify()
        self.dataset.artifact("manifest", images.manifest).verify()
        advice = f"delete {location.manifest.parent} and run again" if location.staged else remedy(images.manifest)
        require_intact(location.manifest, self.rows, advice=advice)
        if self.pixels is not None and location.pixels is not None:
            self.pixels.artifact("pixels", location.pixels).verify()

    def options(self) -> Options:
        """Return the engine's checked run options."""
        engine = registry.get(self.settings.cell.engine, self.settings.module)
        return registry.options(engine, self.settings.options).run

    def inputs(self) -> dict[str, FileEntry]:
        """Return the entries of what goes in: for validation the checkpoint, since its engine file does not stay."""
        ran = self.built.outputs if self.kind is InferenceRecord else self.built.inputs
        sources = [ran, self.dataset.outputs, self.pixels.outputs if self.pixels else {}]
        found = {name: entry for entries in sources for name, entry in entries.items()}
        return {"weights" if name == "source" else name: entry for name, entry in found.items()}

    def record(self, watch: Stopwatch, **outcome: Any) -> None:
        """Write the record."""
        engine = registry.get(self.settings.cell.engine, self.settings.module)
        images = self.files.images
        used = ImagesUsed(
            name=images.manifest.parent.name,
            images=len(self.rows),
            subset=self.settings.subset,
            images_sha256=list_digest(self.rows),
        )
        self.kind.make(
            watch,
            inputs=self.inputs(),
            outputs={"samples": FileEntry.of(self.files.samples)},
            versions=versions(*engine.distributions),
            cell=self.settings.cell,
            dataset=used if self.dataset.ok else None,
            ran_on=identity.ran_on(),
            environment=environment(),
            **outcome,
        ).write(self.files.record)


def _location(run: _Run, scratch: str | None) -> Location:
    """Return where images are read from; on the machine's own disk they are there when this returns."""
    images = run.files.images
    if scratch is None:
        return staging.in_place(images.manifest, images.pixels)
    return staging.stage(images.manifest, run.rows, images.pixels, scratch)


def _measure_here(*, run: _Run, location: Location, watch: Stopwatch) -> None:
    """Measure in this process; the record and the samples are its only results."""
    settings, cell = run.settings, run.settings.cell
    resample.load_kernels()  # however few the images are: the timed code is the same for every data set
    engine = registry.get(cell.engine, settings.module)
    options = run.options()
    before = gpu_state.state()
    meter = engine.memory_meter()
    computes_on: Literal["cpu", "gpu"] = (
        "gpu" if engine.device_kind == "gpu" or engine.accelerator() is not None else "cpu"
    )
    begin = time.perf_counter()
    with engine.open(run.files.engine, run.built, options) as session, meter:
        load_s = time.perf_counter() - begin
        pulse.beat()
        bench = Bench(
            session=session,
            files=Files(location.manifest, run.rows, settings.preprocessing),
            decoded=location.pixels,
            meter=meter,
            scenario=scenario(settings.scenario),
            computes_on=computes_on,
            cpus=cpus.usable(),
            repeats=settings.repeats,
            cached_repeats=settings.cached_repeats,
        )
        found = protocol(settings.protocol).measure(bench)
        execution, requests, slots = session.execution, session.requests, len(session.slots)
    after = gpu_state.state()
    labels = np.array([row.label for row in run.rows], np.int16)
    summary.write_samples(run.files.samples, summary.samples(found, labels))
    measured = Measured(
        settings=RunSettings(
            protocol=settings.protocol,
            scenario=settings.scenario,
            repeats=settings.repeats,
            cached_repeats=settings.cached_repeats,
            decode_threads=found.decode_threads,
            requests=requests,
            slots=slots,
            cpus=tuple(sorted(os.sched_getaffinity(0))),
            options=json.loads(options.model_dump_json()),
        ),
        device_kind=computes_on,
        execution=execution,
        metrics=summary.metrics(found, labels, cell.batch),
        memory=found.memory,
        time_spent=summary.time_spent(found.whole),
        passes=summary.pass_seconds(found),
        startup=Startup(load_s=load_s, warmup_s=found.warm_up.breakdown.wall),
        read_from=location.describe(),
        unsteady_predictions=accuracy.unsteady([*found.whole.classes, *found.cached.classes]),
        gpu_before=before,
        gpu_after=after,
    )
    run.record(watch, result=measured)
