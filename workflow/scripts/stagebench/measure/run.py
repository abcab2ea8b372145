"""The measuring stages: one cell is opened, run and written down, whatever becomes of it."""

from __future__ import annotations

import math
import os
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from stagebench import device, engines, exclusive, gpu, records, supervise
from stagebench.dataset import resample
from stagebench.dataset.manifest import list_digest, validation_rows
from stagebench.dataset.pixels import open_pixels
from stagebench.engines.base import EngineUnavailableError, EngineUnsupportedError, Supported
from stagebench.engines.build import build_engine
from stagebench.measure import accuracy, memory, statistics
from stagebench.measure.feeding import Feeder, Files, Pixels
from stagebench.measure.passes import Passes, run_passes, run_resident
from stagebench.preprocessing import Preprocessing

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
) -> None:
    """Measure a built engine over a data set and write its record and its raw samples.

    What keeps the cell from being measured becomes the record's status and reason: the state of its build, a library's
    refusal, the death of the process that runs it.

    Args:
        cell: device, model, engine, precision and batch.
        preprocessing: fields of `Preprocessing`.
        subset: how many validation images are used; None for all.
        measurement: repeats, cached_repeats, protocol and engine_options (what the engine's `open` takes).

    Raises:
        StagebenchError: this machine is not the device's, or an artifact does not belong to the cell.
    """
    built = records.read_record(build_record)
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
        sources=(Files(manifest, rows, Preprocessing.model_validate(preprocessing)), pixels),
        rows=rows,
        record=record,
        samples=samples,
        inputs=inputs,
        payload={
            "cell": dict(cell),
            "dataset": _dataset(manifest, rows, subset),
        },
        measurement=measurement,
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
) -> None:
    """Measure the model in torch, the reference, in the same way as an engine.

    Args:
        cell: device, model, precision and batch.
        architecture: importable callable, "package.module.callable".
        preprocessing, subset, measurement: as for `measure_inference`; there is no cached pass.

    Raises:
        StagebenchError: this machine is not the device's.
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
        )
        _measure_cell(
            kind="validation",
            engine_file=engine_file,
            built=records.read_record(build_record),
            device_record=device_record,
            sources=(Files(manifest, rows, Preprocessing.model_validate(preprocessing)), None),
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
    sources: tuple[Files, Path | None],
    rows: Sequence[ManifestRow],
    record: Path,
    samples: Path,
    inputs: Mapping[str, Any],
    payload: Mapping[str, Any],
    measurement: Mapping[str, Any],
) -> None:
    """Run a cell in a child process that has the machine to itself, and write what became of it."""
    engine = engines.get(payload["cell"]["engine"])
    envelope = {"inputs": inputs, "versions": records.versions(*engine.distributions), **payload}
    with exclusive.machine():
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
            device.require_same(machine, device_record)
            try:
                failure = supervise.run(
                    _measure_here,
                    kind=kind,
                    engine_file=engine_file,
                    built=built,
                    sources=sources,
                    rows=rows,
                    record=record,
                    samples=samples,
                    envelope=envelope,
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
    if len(rows) * measurement["repeats"] >= resample.WORTHWHILE:
        resample.load_kernels()
    memory.forget_peak()
    before = gpu.snapshot()
    begin = time.perf_counter()
    with (
        engines.get(cell["engine"]).open(engine_file, built, cell["batch"], measurement["engine_options"]) as session,
        memory.DeviceMemory() as sampled,
    ):
        load_s = time.perf_counter() - begin
        threads = len(os.sched_getaffinity(0))
        warmup_s = _warm_up(session, files, threads)
        with Feeder(files, threads) as feeder:
            whole = run_passes(session, feeder, measurement["repeats"])
        resident_s, resident_requests = run_resident(session, measurement["repeats"])
        resident_bytes = memory.peak_resident_bytes()
        core = statistics.rate(resident_requests * cell["batch"], resident_s)
        cached = _run_cached(session, pixels, threads, measurement["cached_repeats"], core)
        execution, requests = dict(session.execution), session.requests
    after = gpu.snapshot()

    labels = np.array([row.label for row in rows], np.int16)
    total_bytes = (gpu.identity() or {}).get("memory_bytes", 0) if sampled.peak else memory_bytes
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
                "latency_us": None if core is None else statistics.reciprocal_us(core),
                "top1": accuracy.accuracy(whole.classes[0], labels, 1),
                "top5": accuracy.accuracy(whole.classes[0], labels, accuracy.TOP),
                "mem_used_gib": (sampled.peak or resident_bytes) / _GIB,
                "mem_total_gib": total_bytes / _GIB,
            },
            passes={
                "whole": whole.seconds,
                "cached": cached.seconds,
                "cached_images": cached.classes.shape[1],
                "resident": resident_s,
            },
            startup={"load_s": load_s, "warmup_s": warmup_s},
            unsteady_predictions=accuracy.unsteady([*whole.classes, *cached.classes]),
            device_before=before,
            device_after=after,
        ),
    )


def _warm_up(session: Session, files: Files, threads: int) -> float:
    """Run the first images through the whole chain once, as many batches as are in flight at a time; return seconds."""
    begin = time.perf_counter()
    with Feeder(files.first(session.requests * len(session.slots[0])), threads) as feeder:
        run_passes(session, feeder, 1)
    return time.perf_counter() - begin


def _run_cached(session: Session, pixels: Path | None, threads: int, repeats: int, core: float | None) -> Passes:
    """Run passes over the decoded pixels, or over as many of them as the engine computes in `_CACHED_S` seconds.

    What is returned has no passes where there are no pixels.
    """
    if pixels is None or repeats == 0:
        return Passes.none()
    batch = len(session.slots[0])
    decoded = open_pixels(pixels)
    enough = batch * math.ceil(_CACHED_S * core / batch) if core else len(decoded)
    with Feeder(Pixels(decoded[:enough]), threads) as feeder:
        return run_passes(session, feeder, repeats)


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
