"""The building stage: a prepared model becomes an engine file, or a record that says why not."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from stagebench import device, engines, records, supervise
from stagebench.engines.base import (
    BuildSpec,
    Engine,
    EngineUnavailableError,
    EngineUnsupportedError,
    Unavailable,
    Unsupported,
)
from stagebench.preprocessing import Preprocessing

#: What stands in the engine file where none was built.
NOTHING_BUILT = "no engine was built: {status} ({reason}); its record has the details\n"


def build_engine(
    engine: str,
    source: Path,
    source_record: Path,
    device_record: Path,
    out: Path,
    record: Path,
    *,
    precision: str,
    batch: int,
    model: str,
    architecture: str,
    preprocessing: Mapping[str, Any],
    options: Mapping[str, Any],
    cache_folder: Path | None = None,
    tries_left: int = 0,
) -> None:
    """Build an engine in a child process and write its file and its record, whatever becomes of it.

    Args:
        engine: name of the engine.
        source: the prepared ONNX file, or the checkpoint for engines that take it.
        device_record: what it is built for; a device that is not present is built for ahead of time.
        options: the engine's section of the config, without what only a run takes.
        cache_folder: where builds on the device may keep what they share.
        tries_left: how often a scheduler would try again with more memory.

    Raises:
        StagebenchError: this machine is not the device's; memory ran out and there are tries left.
    """
    watch = records.Stopwatch()
    chosen = engines.get(engine)
    target = records.read_record(device_record)
    made_from = next(iter(records.read_record(source_record)["outputs"].values()))
    spec = BuildSpec(
        precision=precision,
        batch=batch,
        model=model,
        architecture=architecture,
        preprocessing=Preprocessing.model_validate(preprocessing),
        device=target,
        source=made_from,
        options=options,
        cache_folder=cache_folder,
    )
    if target["identity"]["present"]:
        device.require_same(target, device_record)
    payload = records.part_of(record)
    status, reason, details = _attempt(chosen, source, out, spec, payload, tries_left)
    if status == "ok":
        details = {"build": records.read_json(payload)}
    else:
        with records.replacing(out) as part:
            part.write_text(NOTHING_BUILT.format(status=status, reason=reason), encoding="utf-8")
    payload.unlink(missing_ok=True)
    records.write_json(
        record,
        records.make_record(
            "engine",
            watch=watch,
            status=status,
            reason=reason,
            inputs={"source": made_from},
            outputs={"engine": records.describe(out)},
            versions=records.versions(*chosen.distributions),
            cell={
                "device": target["name"],
                "model": model,
                "engine": engine,
                "precision": precision,
                "batch": batch,
            },
            device=target["identity"],
            ran_on=device.ran_on(),
            options=dict(options),
            **details,
        ),
    )


def _attempt(
    engine: Engine, source: Path, out: Path, spec: BuildSpec, payload: Path, tries_left: int
) -> tuple[records.Status, str | None, dict[str, Any]]:
    """Ask for support and build; return the status, the reason and what is known of a failure."""
    support = engine.support(spec.precision, spec.device)
    if isinstance(support, Unsupported):
        return "unsupported", support.reason, {}
    if isinstance(support, Unavailable):
        return "unavailable", support.reason, {}
    try:
        failure = supervise.run(_build_here, engine=engine, source=source, out=out, spec=spec, payload=payload)
    except EngineUnsupportedError as error:
        return "unsupported", str(error), {}
    except EngineUnavailableError as error:
        return "unavailable", str(error), {}
    if failure is not None:
        failure.raise_if_worth_another_try(tries_left)
        details = {"signal": failure.signal, "peak_memory_bytes": failure.peak_memory_bytes}
        return "failed", failure.reason, details
    return "ok", None, {}


def _build_here(engine: Engine, source: Path, out: Path, spec: BuildSpec, payload: Path) -> None:
    """Build in this process; the files are its only results."""
    with records.replacing(out) as part:
        built = engine.build(source, part, spec)
    records.write_json(payload, built)
