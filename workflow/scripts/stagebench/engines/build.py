"""The building stage: a prepared model becomes an engine file, or a record that says why not."""

from __future__ import annotations

import json
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import JsonValue

from stagebench.engines import registry
from stagebench.engines.base import BuildSpec, Engine
from stagebench.errors import StagebenchError, UnrecordedError
from stagebench.host import identity
from stagebench.host.environment import environment
from stagebench.job import supervise
from stagebench.preprocessing import Preprocessing
from stagebench.records.artifact import Artifact
from stagebench.records.cells import Built, DeviceRecord, EngineRecord
from stagebench.records.envelope import Failure, FileEntry, Record, Stopwatch, Value, header, passed_on, write_unmade
from stagebench.records.io import part_of, replacing, versions, write_json
from stagebench.records.kinds import KINDS
from stagebench.records.models import VariantRecord
from stagebench.vocabulary import OK, Cell, RefusedError, State, failed, precision, unsupported


class BuildSettings(Value):
    """Settings of a build, from the config."""

    cell: Cell
    #: Module of an engine that is not of this package; null for one that is.
    module: str | None
    architecture: str
    preprocessing: Preprocessing
    #: The engine's section of the config.
    options: dict[str, JsonValue]


@dataclass(frozen=True)
class BuildFiles:
    """The files of a build. `source` is None if the engine has no file for the precision: then it is unsupported."""

    source: Path | None
    source_record: Path | None
    device_record: Path
    engine: Path
    record: Path
    #: Folder for what builds on the device may share.
    cache_folder: Path | None = None


def build_engine(settings: BuildSettings, files: BuildFiles, tries_left: int = 0, timeout_s: float = math.inf) -> None:
    """Build an engine in a child process and write its file and its record, in any state.

    Args:
        tries_left: how often a scheduler would try again with more memory.
        timeout_s: seconds without progress after which the child is ended.

    Raises:
        UnrecordedError: this machine is not the device's, the model file is not what its record describes, or memory
            ran out and there are tries left.
    """
    watch = Stopwatch()
    cell = settings.cell
    engine = registry.get(cell.engine, settings.module)
    options = registry.options(engine, settings.options).build
    target = DeviceRecord.read(files.device_record)
    made_from = _source_record(files.source_record) if files.source_record else None
    known: dict[str, Any] = {
        "cell": cell,
        "device": target.found.identity if target.ok else None,
        "accelerator": engine.accelerator(),
        "ran_on": identity.ran_on(),
        "environment": environment(),
        "options": json.loads(options.model_dump_json()),
        "versions": versions(*engine.distributions),
    }
    sources = [target, *([made_from] if made_from else [])]
    if passed_on(EngineRecord, files.record, watch, sources=sources, outputs={"engine": files.engine}, **known):
        return
    device = target.found.identity
    if device.present:
        identity.require_same(target, files.device_record)
    state, failure = engine.support(precision(cell.precision), device), None
    if state.ok and (files.source is None or made_from is None):
        state = unsupported(f"{cell.engine} has no model file for {cell.precision}")
    inputs = {} if made_from is None else {"source": next(iter(made_from.outputs.values()))}
    built = None
    if state.ok and files.source is not None:
        Artifact(files.source, inputs["source"]).verify()
        spec = BuildSpec(
            cell=cell,
            architecture=settings.architecture,
            preprocessing=settings.preprocessing,
            device=device,
            source=inputs["source"],
            options=options,
            weight_bits=_weight_bits(made_from),
            cache_folder=files.cache_folder,
        )
        state, failure, built = _attempt(
            engine, files.source, files.engine, spec, part_of(files.record), tries_left, timeout_s
        )
    if built is None:
        outputs = {"engine": files.engine}
        write_unmade(
            EngineRecord, files.record, watch, state=state, failure=failure, inputs=inputs, outputs=outputs, **known
        )
    else:
        EngineRecord.make(
            watch,
            result=built,
            inputs=inputs,
            outputs={"engine": FileEntry.of(files.engine)},
            **known,
        ).write(files.record)


def _source_record(path: Path) -> Record[Any]:
    """Read the record of a checkpoint or of an ONNX variant, whichever an engine is built from.

    Raises:
        StagebenchError: it is neither, or damaged.
    """
    kind = header(path).kind
    if kind not in ("weights", "variant"):
        raise StagebenchError(f"{path}: a record of kind {kind!r}, not of a model file; delete it and run again")
    return KINDS[kind].read(path)


def _weight_bits(made_from: Record[Any] | None) -> int | None:
    """Return the bits of a model file's int8 weights."""
    quantisation = made_from.found.quantisation if isinstance(made_from, VariantRecord) else None
    return quantisation.weight_bits if quantisation and "int8" in quantisation.weights else None


def _attempt(
    engine: Engine, source: Path, out: Path, spec: BuildSpec, payload: Path, tries_left: int, timeout_s: float
) -> tuple[State, Failure | None, Built | None]:
    """Build in a child process; return the state, what is known of a failure, and what was built.

    Args:
        payload: a file for what the child says; it does not stay.
    """
    try:
        ended = supervise.run(
            _build_here,
            timeout_s=timeout_s,
            makes=(out,),
            engine=engine,
            source=source,
            out=out,
            spec=spec,
            payload=payload,
        )
        if ended is None:
            return OK, None, Built.model_validate_json(payload.read_text(encoding="utf-8"))
    except RefusedError as error:
        return error.state, None, None
    except UnrecordedError:
        raise
    except StagebenchError as error:
        return failed(str(error)), None, None
    finally:
        payload.unlink(missing_ok=True)
    ended.raise_if_worth_another_try(tries_left)
    return ended.state, ended.failure, None


def _build_here(engine: Engine, source: Path, out: Path, spec: BuildSpec, payload: Path) -> None:
    """Build in this process; the files are its only results."""
    with replacing(out) as part:
        built = engine.build(source, part, spec)
    write_json(payload, built.model_dump(mode="json"))
