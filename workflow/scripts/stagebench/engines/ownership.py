"""Engine files of another device, library version, model or batch size are refused, with what differs."""

from __future__ import annotations

from pathlib import Path

from stagebench.errors import UnrecordedError
from stagebench.host import identity
from stagebench.host.identity import same_cards
from stagebench.records.artifact import Artifact
from stagebench.records.cells import EngineRecord
from stagebench.records.io import NONE, versions
from stagebench.records.machine import Accelerator
from stagebench.vocabulary import Cell, RefusedError, State, unavailable


class ForeignEngineError(UnrecordedError):
    """An engine file was made on another device, by another library version or from another model."""


def require_own(
    distributions: tuple[str, ...], accelerator: Accelerator | None, engine_file: Path, record: EngineRecord
) -> None:
    """Raise unless an engine file matches this device, these library versions and its own record.

    Args:
        distributions: those of the engine.
        accelerator: the one that the engine would use here.

    Raises:
        RefusedError: it was built for a machine that is not this one, ahead of time.
        ForeignEngineError: it does not match; the text says what differs and which target rebuilds it.
        ChangedError: it, or the model file that it was built from, is not what its record describes.
    """
    built_for = record.device
    if built_for is not None and not built_for.present:
        raise RefusedError(built_ahead_of_time(identity.describe(built_for)))
    here = identity.identity()
    found = [
        f"{name} {record.versions.get(name, NONE)} there, {version} here"
        for name, version in versions(*distributions).items()
        if record.versions.get(name) != version
    ]
    if built_for is None or identity.differences(built_for, here, timed=False):
        there = "unknown" if built_for is None else identity.describe(built_for)
        found.append(f"device {there} there, {identity.describe(here)} here")
    elif not same_cards(record.accelerator, accelerator):
        found.append(f"accelerator {_name(record.accelerator)} there, {_name(accelerator)} here")
    _refuse(engine_file, found)
    record.artifact("engine", engine_file).verify()
    source = Artifact(Path(record.inputs["source"].path), record.inputs["source"])
    if source.path.is_file():
        source.verify()


def require_cell(engine_file: Path, built: Cell, asked: Cell) -> None:
    """Raise unless an engine file was built for the cell that is to be run.

    Raises:
        ForeignEngineError: it was built for another one.
    """
    _refuse(engine_file, built.differences(asked))


def built_ahead_of_time(device: str) -> State:
    """Return the state of a cell whose engine was built for a machine that is not this one."""
    return unavailable(f"built ahead of time for {device}; run it on a machine with such a GPU")


def _refuse(engine_file: Path, differences: list[str]) -> None:
    if differences:
        raise ForeignEngineError(
            f"{engine_file}: foreign engine ({'; '.join(differences)}); "
            "delete it with its record and rebuild this target"
        )


def _name(card: Accelerator | None) -> str:
    return NONE if card is None else str(card.name)
