"""The environment block, made from the records of the rows: one list, or a column for each environment that differs."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from stagebench.records.cells import CellRecord, EngineRecord
from stagebench.records.io import NONE
from stagebench.records.machine import Environment, GpuSettings
from stagebench.report.formatting import BLANK, count
from stagebench.report.rows import Row
from stagebench.report.tables import Table


def _gpu(read: Callable[[GpuSettings], str]) -> Callable[[Environment], str]:
    return lambda found: NONE if found.gpu is None else read(found.gpu)


def _on(value: bool | None) -> str:
    return "unknown" if value is None else ("on" if value else "off")


def _known(value: float | None, unit: str) -> str:
    return "unknown" if value is None else f"{value:.0f} {unit}"


#: The lines of the block: label, and text.
_LINES: tuple[tuple[str, Callable[[Environment], str]], ...] = (
    ("Host", lambda found: found.host),
    ("Machine", lambda found: found.machine),
    ("CPU", lambda found: f"{found.cpu}, {found.cpus_usable} CPUs usable of {found.cpus_total}"),
    ("CPU features", lambda found: ", ".join(found.cpu_features) or NONE),
    ("CPU clock", lambda found: found.cpu_clock),
    ("Memory", lambda found: f"{found.memory_bytes / 2**30:.1f} GiB"),
    ("Network", lambda found: found.network),
    ("OS", lambda found: found.os),
    ("Kernel", lambda found: found.kernel),
    ("Accelerator", lambda found: found.accelerator),
    ("Driver", lambda found: found.driver),
    ("CUDA driver", lambda found: found.cuda_driver),
    ("CUDA runtime", lambda found: found.cuda_runtime),
    ("CUDA toolkit", lambda found: found.cuda_toolkit),
    (
        "GPU clocks",
        _gpu(
            lambda gpu: (
                f"SM at most {_known(gpu.sm_clock_max_mhz, 'MHz')}, "
                f"memory at most {_known(gpu.memory_clock_max_mhz, 'MHz')}"
            )
        ),
    ),
    ("GPU power limit", _gpu(lambda gpu: _known(gpu.power_limit_w, "W"))),
    ("GPU ECC", _gpu(lambda gpu: _on(gpu.ecc))),
    ("GPU persistence mode", _gpu(lambda gpu: _on(gpu.persistence_mode))),
    ("GPU link", _gpu(lambda gpu: f"PCIe generation {gpu.pcie_generation_max}, width {gpu.pcie_width_max}")),
    ("Docker", lambda found: found.docker),
    ("Container", lambda found: found.container),
    ("Framework", lambda found: ", ".join(f"{name} {version}" for name, version in found.framework.items())),
    ("Python", lambda found: found.python),
)
_ENGINES = "Engines"


@dataclass(frozen=True)
class Block:
    """One environment: a title, its lines, and what was built or measured in it."""

    title: str
    lines: dict[str, str]
    covers: tuple[str, ...]


def blocks(rows: Sequence[Row]) -> list[Block]:
    """Return the environments of all builds and runs behind the rows, each once, in the order of the rows."""
    found: dict[tuple[str, ...], list[tuple[Row, str, CellRecord | EngineRecord]]] = {}
    for row in rows:
        for what, record in _jobs(row):
            texts = tuple(text(record.environment) for _, text in _LINES)
            found.setdefault((row.cell.device, *texts), []).append((row, what, record))
    devices = [key[0] for key in found]
    made: list[Block] = []
    for key, members in found.items():
        lines = dict(zip((label for label, _ in _LINES), key[1:], strict=True))
        # The versions that the jobs themselves recorded, whichever engine it is and wherever it comes from.
        used = {
            f"{record.cell.engine} ({', '.join(f'{name} {version}' for name, version in record.versions.items())})"
            for _, _, record in members
        }
        lines[_ENGINES] = ", ".join(sorted(used))
        device, number = key[0], len([title for title in made if title.title.split(" ")[0] == key[0]]) + 1
        title = device if devices.count(device) == 1 else f"{device} ({number})"
        covers = tuple(dict.fromkeys(f"{what} {' '.join(row.cell.key[2:])}" for row, what, _ in members))
        made.append(Block(title, lines, covers))
    return made


def side_by_side(found: Sequence[Block]) -> Table:
    """Return environments as a table with a column for each."""
    labels = list(found[0].lines) if found else []
    lines = [[label, *(block.lines[label] for block in found)] for label in labels]
    return Table.of(["", *(block.title for block in found)], lines, left=len(found) + 1)


def places(rows: Sequence[Row]) -> dict[str, str]:
    """Return where the measured rows ran and read from: label -> text."""
    found: dict[str, list[str]] = {"Measured on": [], "Images read from": []}
    for row in rows:
        if row.run is None or row.inference is None:
            continue
        ran_on, read_from = row.inference.ran_on, row.run.read_from
        card = f", {ran_on.gpu.name} {ran_on.gpu.uuid}" if ran_on.gpu else ""
        staged = ", copied to the machine's own disk first" if read_from.staged else ""
        for label, text in (
            ("Measured on", f"{ran_on.host} ({count(len(ran_on.cpus), 'CPU')}{card})"),
            ("Images read from", f"`{read_from.folder}` ({read_from.file_system}{staged})"),
        ):
            if text not in found[label]:
                found[label].append(text)
    return {label: "; ".join(texts) or BLANK for label, texts in found.items() if texts}


def _jobs(row: Row) -> Iterator[tuple[str, CellRecord | EngineRecord]]:
    if row.engine is not None:
        yield "build of", row.engine
    if row.validation is not None:
        yield "validation for", row.validation
    if row.inference is not None:
        yield "run of", row.inference
