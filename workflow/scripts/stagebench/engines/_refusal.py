"""Engine files of another device, library version, model or batch size are refused, with what differs."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from stagebench import device, records
from stagebench.engines.base import Engine, EngineUnavailableError, ForeignEngineError

if TYPE_CHECKING:
    from collections.abc import Mapping


def require_own(engine: Engine, engine_file: Path, build_record: Mapping[str, Any], batch: int) -> None:
    """Go on only where an engine file was built here, by this library, for this batch size.

    Raises:
        EngineUnavailableError: it was built for a machine that is not this one, ahead of time.
        ForeignEngineError: it was built for something else; the text says what differs and which target rebuilds it.
    """
    built_for = build_record["device"]
    if not built_for["present"]:
        raise EngineUnavailableError(
            f"built ahead of time for compute capability {built_for['gpu']['compute_capability']}; "
            "run it on a machine with such a GPU"
        )
    here = device.identity()
    versions = records.versions(*engine.distributions)
    differences = [
        f"{name} {build_record['versions'].get(name, 'none')} there, {version} here"
        for name, version in versions.items()
        if build_record["versions"].get(name) != version
    ]
    if device.differences(built_for, here, timed=False):
        differences.append(f"device {device.describe(built_for)} there, {device.describe(here)} here")
    if build_record["cell"]["batch"] != batch:
        differences.append(f"batch size {build_record['cell']['batch']} there, {batch} here")
    entry = build_record["outputs"]["engine"]
    if engine_file.stat().st_size != entry["bytes"]:
        differences.append(f"{entry['bytes']} bytes there, {engine_file.stat().st_size} here")
    elif records.digest(engine_file) != entry["sha256"]:
        differences.append("other contents than its record describes")
    source = build_record["inputs"]["source"]
    if Path(source["path"]).is_file() and records.digest(Path(source["path"])) != source["sha256"]:
        differences.append(f"{source['path']} has changed since")
    if differences:
        raise ForeignEngineError(
            f"{engine_file}: foreign engine ({'; '.join(differences)}); delete it and make this target anew"
        )
