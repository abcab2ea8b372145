"""The measuring stages: one cell is opened, run and written down, whatever becomes of it."""

from __future__ import annotations

import math
import os
import tempfile
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from stagebench import device, engines, exclusive, gpu, records, supervise
from stagebench.dataset import resample
from stagebench.dataset.manifest import list_digest, validation_rows
from stagebench.dataset.pixels import open_pixels
from stagebench.engines.base import EngineUnavailableError, EngineUnsupportedError, Supported
from stagebench.engines.build import build_engine
from stagebench.gpu_memory import DeviceMemory
from stagebench.measure import accuracy, memory, staging, statistics
from stagebench.measure.feeding import Feeder, Files, Pixels, threads_to_feed
from stagebench.measure.passes import Passes, run_passes, run_resident
from stagebench.preprocessing import Preprocessing
from stagebench.records import StagebenchError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from stagebench.dataset.manifest import ManifestRow
    from stagebench.engines.base import Session, Timing

_GIB = 2**30
# What a pass over decoded pixels may take: nothing varies from image to image, so part of them says the same.
_CACHED_S = 1.0


def measure_inference(
    engine_file: Path,
    build_record: Path,
    device_record: Path,
    manifest: Path,
    dataset_record: Path,
    pixels: Path | None,
    pixels_record: Path | None,
    record: Path,
    samples: Path,
    *,
    cell: Mapping[str, Any],
    preprocessing: Mapping[str, Any],
    subset: int | None,
    measurement: Mapping[str, Any],
    machine: Mapping[str, Any] | None = None,
    tries_left: int = 0,
) -> None:
    """Measure a built engine over a data set and write its record and its raw samples.

    What keeps the cell from being measured becomes the record's status and reason: the state of its build, a library's
    refusal, the death of the process that runs it.

    Args:
        cell: device, model, engine, precision and batch.
        preprocessing: fields of `Preprocessing`.
        subset: how many validation images are used; None for all.
        measurement: repeats, cached_repeats, protocol and engine_options (what the engine's `open` takes).
        machine: the device's local_scratch and share_node.
        tries_left: how often a scheduler would try again with more memory.

    Raises:
        StagebenchError: this machine is not the device's, or an artifact does not belong to the cell; memory ran out
            and there are tries left.
    """
    built = records.read_record(build_record)
    _require_own_cell(engine_file, built["cell"], cell)
    dataset = records.read_record(dataset_record)
    inputs = {"engine": records.output_entry(built, "engine"), "manifest": records.output_entry(dataset, "manifest")}
    if pixels is not None and pixels_record is not None:
        inputs["pixels"] = records.output_entry(records.read_record(pixels_record), "pixels")
    rows = validation_rows(manifest, subset)
    _measure_cell(
        kind="inference",
        engine_file=engine_file,
        built=built,
        device_record=device_record,
        sources=_Sources(manifest, Preprocessing.model_validate(preprocessing), pixels),
        rows=rows,
        record=record,
        samples=samples,
        inputs=inputs,
        payload={
            "cell": dict(cell),
            "dataset": _dataset(manifest, rows, subset),
        },
        measurement=measurement,
        allowed=machine or {},
        tries_left=tries_left,
    )


def measure_validation(
    weights: Path,
    weights_record: Path,
    device_record: Path,
    manifest: Path,
    dataset_record: Path,
    record: Path,
    samples: Path,
    *,
    cell: Mapping[str, Any],
    architecture: str,
    preprocessing: Mapping[str, Any],
    subset: int | None,
    measurement: Mapping[str, Any],
    machine: Mapping[str, Any] | None = None,
    tries_left: int = 0,
) -> None:
    """Measure the model in torch, the reference, in the same way as an engine.

    Args:
        cell: device, model, precision and batch.
        architecture: importable callable, "package.module.callable".
        preprocessing, subset, measurement, machine, tries_left: as for `measure_inference`; there is no cached pass.

    Raises:
        StagebenchError: this machine is not the device's; memory ran out and there are tries left.
    """
    dataset = records.read_record(dataset_record)
    rows = validation_rows(manifest, subset)
    if isinstance(engines.get("torch").support(cell["precision"], records.read_record(device_record)), Supported):
        # Imported once for both children, which are forked: nothing computes here.
        import torchvision  # noqa: F401
    record.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=record.parent, prefix=f".{record.stem}.") as folder:
        engine_file, build_record = Path(folder) / "torch.engine", Path(folder) / "torch.json"
        build_engine(
            "torch",
            weights,
            weights_record,
            device_record,
            engine_file,
            build_record,
            precision=cell["precision"],
            batch=cell["batch"],
            model=cell["model"],
            architecture=architecture,
            preprocessing=dict(preprocessing),
            options={},
            tries_left=tries_left,
        )
        _measure_cell(
            kind="validation",
            engine_file=engine_file,
            built=records.read_record(build_record),
            device_record=device_record,
            sources=_Sources(manifest, Preprocessing.model_validate(preprocessing), None),
            rows=rows,
            record=record,
            samples=samples,
            inputs={
                "weights": records.output_entry(records.read_record(weights_record), "weights"),
                "manifest": records.output_entry(dataset, "manifest"),
            },
            payload={
                "cell": {**cell, "engine": "torch"},
                "dataset": _dataset(manifest, rows, subset),
            },
            measurement=measurement,
            allowed=machine or {},
            tries_left=tries_left,
        )


@dataclass(frozen=True)
class _Sources:
    """What a cell reads its images from, as the workflow keeps it."""

    manifest: Path
    preprocessing: Preprocessing
    pixels: Path | None


def _require_own_cell(engine_file: Path, built: Mapping[str, Any], cell: Mapping[str, Any]) -> None:
    """Refuse an engine that was built for another cell: another device of the same hardware, for one."""
    different = [f"{key} {built[key]} there, {value} here" for key, value in cell.items() if built[key] != value]
    if different:
        raise StagebenchError(
            f"{engine_file}: foreign engine ({'; '.join(different)}); delete it with its record and make it anew"
        )


def _dataset(manifest: Path, rows: Sequence[ManifestRow], subset: int | None) -> dict[str, Any]:
    """Say which images were measured."""
    return {"name": manifest.parent.name, "images": len(rows), "subset": subset, "images_sha256": list_digest(rows)}


def _measure_cell(
    *,
    kind: str,
    engine_file: Path,
    built: Mapping[str, Any],
    device_record: Path,
    sources: _Sources,
    rows: Sequence[ManifestRow],
    record: Path,
    samples: Path,
    inputs: Mapping[str, Any],
    payload: Mapping[str, Any],
    measurement: Mapping[str, Any],
    allowed: Mapping[str, Any],
    tries_left: int,
) -> None:
    """Run a cell in a child process that has the machine, or its part of it, to itself; write what became of it."""
    engine = engines.get(payload["cell"]["engine"])
    envelope = {
        "inputs": inputs,
        "versions": records.versions(*engine.distributions),
        "ran_on": device.ran_on(),
        **payload,
    }
    with exclusive.share() if allowed.get("share_node") else exclusive.machine():
        watch = records.Stopwatch()
        status, reason = built["status"], built["reason"]
        details: dict[str, Any] = {}
        machine = records.read_record(device_record)
        if status == "ok" and not machine["identity"]["present"]:
            status = "unavailable"
            reason = (
                f"built ahead of time for {device.describe(machine['identity'])}; run it on a machine with such a GPU"
            )
        if status == "ok":
            device.require_same(machine, device_record, timed=True)
            place = _place(sources, rows, allowed.get("local_scratch"))
            try:
                failure = supervise.run(
                    _measure_here,
                    kind=kind,
                    engine_file=engine_file,
                    built=built,
                    sources=(Files(place.manifest, rows, sources.preprocessing), place.pixels),
                    rows=rows,
                    record=record,
                    samples=samples,
                    envelope={**envelope, "read_from": place.describe()},
                    measurement=measurement,
                    memory_bytes=machine["identity"]["memory_bytes"],
                    watch=watch,
                )
            except EngineUnsupportedError as error:
                status, reason = "unsupported", str(error)
            except EngineUnavailableError as error:
                status, reason = "unavailable", str(error)
            else:
                if failure is None:
                    return
                failure.raise_if_worth_another_try(tries_left)
                status, reason = "failed", failure.reason
                details = {"signal": failure.signal, "peak_memory_bytes": failure.peak_memory_bytes}
        _write_samples(samples, {})
        records.write_json(
            record,
            records.make_record(
                kind,
                watch=watch,
                status=status,
                reason=reason,
                outputs={"samples": records.describe(samples)},
                **envelope,
                **details,
            ),
        )


def _place(sources: _Sources, rows: Sequence[ManifestRow], scratch: str | None) -> staging.Place:
    """Return where the images are read from; on the machine's own disk they are there when this returns."""
    if scratch is None:
        return staging.in_place(sources.manifest, sources.pixels)
    return staging.stage(sources.manifest, rows, sources.pixels, scratch)


def _measure_here(
    *,
    kind: str,
    engine_file: Path,
    built: Mapping[str, Any],
    sources: tuple[Files, Path | None],
    rows: Sequence[ManifestRow],
    record: Path,
    samples: Path,
    envelope: Mapping[str, Any],
    measurement: Mapping[str, Any],
    memory_bytes: int,
    watch: records.Stopwatch,
) -> None:
    """Measure in this process; the record and the samples are its only results."""
    cell = envelope["cell"]
    files, pixels = sources
    resample.load_kernels()  # however few the images are: what is timed is the same code for every data set
    memory.forget_peak()
    before = gpu.snapshot()
    sampled = DeviceMemory()
    engine = engines.get(cell["engine"])
    begin = time.perf_counter()
    with (
        engine.open(engine_file, built, cell["batch"], measurement["engine_options"]) as session,
        sampled,
    ):
        load_s = time.perf_counter() - begin
        cpus = len(os.sched_getaffinity(0))
        warm = _warm_up(session, files, cpus)
        resident_s, resident_requests = run_resident(session, measurement["repeats"])
        core = resident_requests * cell["batch"] * len(resident_s) / sum(resident_s)
        input_cpu_s = warm.breakdown.input_cpu / warm.classes.shape[1]
        computes_on = "gpu" if session.on_gpu else "cpu"
        threads = threads_to_feed(computes_on, cpus, input_cpu_s, core)
        with Feeder(files, threads) as feeder:
            whole = run_passes(session, feeder, measurement["repeats"])
        resident_bytes = memory.peak_resident_bytes()
        cached = _run_cached(session, pixels, threads, measurement["cached_repeats"], core)
        execution, requests, on_gpu = dict(session.execution), session.requests, session.on_gpu
    after = gpu.snapshot()

    labels = np.array([row.label for row in rows], np.int16)
    total_bytes = (gpu.identity() or {}).get("memory_bytes", 0) if on_gpu else memory_bytes
    _write_samples(samples, _samples(labels, whole, cached, resident_s, resident_requests))
    records.write_json(
        record,
        records.make_record(
            kind,
            watch=watch,
            outputs={"samples": records.describe(samples)},
            **envelope,
            measurement={**measurement, "decode_threads": threads, "cpus": sorted(os.sched_getaffinity(0))},
            execution={**execution, "requests": requests},
            metrics={
                "p_whole": statistics.rate(len(rows), whole.seconds),
                "p_core": core,
                "p_device": _device_rate(len(rows) * len(whole.seconds), whole.timings),
                "p_cached": statistics.rate(cached.classes.shape[1], cached.seconds),
                "latency_us": statistics.reciprocal_us(core),
                "top1": accuracy.accuracy(whole.classes[0], labels, 1),
                "top5": accuracy.accuracy(whole.classes[0], labels, accuracy.TOP),
                "mem_used_gib": (sampled.peak if on_gpu else resident_bytes) / _GIB,
                "mem_total_gib": total_bytes / _GIB,
            },
            device_kind=computes_on,
            breakdown={**whole.breakdown.as_record(), **_on_device(whole.timings)},
            passes={
                "whole": whole.seconds,
                "cached": cached.seconds,
                "cached_images": cached.classes.shape[1],
                "resident": resident_s,
            },
            startup={"load_s": load_s, "warmup_s": warm.breakdown.wall},
            unsteady_predictions=accuracy.unsteady([*whole.classes, *cached.classes]),
            device_memory=sampled.describe() if on_gpu else None,
            device_before=before,
            device_after=after,
        ),
    )


def _warm_up(session: Session, files: Files, threads: int) -> Passes:
    """Run the first images through the whole chain once, as many batches as are in flight at a time."""
    with Feeder(files.first(session.requests * len(session.slots[0])), threads) as feeder:
        return run_passes(session, feeder, 1)


def _run_cached(session: Session, pixels: Path | None, threads: int, repeats: int, core: float) -> Passes:
    """Run passes over the decoded pixels, or over as many of them as the engine computes in `_CACHED_S` seconds.

    What is returned has no passes where there are no pixels.
    """
    if pixels is None or repeats == 0:
        return Passes.none()
    batch = len(session.slots[0])
    decoded = open_pixels(pixels)
    enough = batch * math.ceil(_CACHED_S * core / batch)
    with Feeder(Pixels(decoded[:enough]), threads) as feeder:
        return run_passes(session, feeder, repeats)


def _on_device(timings: Sequence[Timing]) -> dict[str, float]:
    """Return the seconds of each phase on the device, over all requests; they overlap where requests do."""
    return {phase: sum(getattr(timing, phase) for timing in timings) for phase in ("h2d", "compute", "d2h")}


def _device_rate(images: int, timings: Sequence[Timing]) -> float | None:
    """Return images per second of H2D, compute and D2H together."""
    seconds = sum(timing.h2d + timing.compute + timing.d2h for timing in timings)
    return images / seconds if seconds > 0 else None


def _samples(
    labels: np.ndarray[Any, Any],
    whole: Passes,
    cached: Passes,
    resident_s: list[float],
    resident_requests: int,
) -> dict[str, Any]:
    """Return the arrays of the .npz file."""
    return {
        "labels": labels,
        "top5": whole.classes[0],
        "top5_logits": whole.logits[0],
        "whole_s": np.array(whole.seconds),
        "cached_s": np.array(cached.seconds),
        "resident_s": np.array(resident_s),
        "resident_requests": np.array(resident_requests),
        "h2d_s": np.array([timing.h2d for timing in whole.timings]),
        "compute_s": np.array([timing.compute for timing in whole.timings]),
        "d2h_s": np.array([timing.d2h for timing in whole.timings]),
    }


def _write_samples(path: Path, arrays: Mapping[str, Any]) -> None:
    """Write an .npz file atomically; it is empty where nothing was measured."""
    with records.replacing(path) as part, part.open("wb") as file:
        np.savez_compressed(file, **arrays)
