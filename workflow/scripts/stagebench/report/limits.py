"""Why a run delivers less than its engine computes: where the time of the passes went, and what limits each row."""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from typing import Any

from stagebench.records.cells import Measured, TimeSpent
from stagebench.records.envelope import Record
from stagebench.report.formatting import BLANK, count, rate
from stagebench.report.rows import Row
from stagebench.report.tables import Table

# Above this share of core the input side is as good as free.
_KEEPS_UP = 0.95
# A sharing of cores that predicts the measured rate this closely explains it.
_EXPLAINS = 0.9
# Below this share of the time input is not what the loop waits for.
_SELDOM = 0.05
_PHASES = ("read", "decode", "resize", "h2d", "compute", "d2h", "top_k")
_WAITS = ("wait_slot", "wait_input", "wait_engine")


def breakdown_table(rows: Sequence[Row]) -> Table:
    """Return where the time of each measured row's passes went, in milliseconds per image."""
    headers = [
        "device",
        "model",
        "engine",
        "precision",
        "bs",
        *(name.replace("h2d", "H2D").replace("d2h", "D2H").replace("_", "-") for name in _PHASES),
        "feeder idle",
        "wait for input",
        "wait for engine",
        "wall",
    ]
    lines = []
    for row in rows:
        if row.run is not None:
            spent, images = row.run.time_spent, _images(row, row.run)
            figures = [_milliseconds(getattr(spent, name), images) for name in (*_PHASES, *_WAITS, "wall")]
            lines.append([*row.cell.key, *figures])
    return Table.of(headers, lines, left=4)


def sentences(rows: Sequence[Row]) -> list[str]:
    """Return for each measured row a sentence on what limits it."""
    return [
        f"{_name(row)}: {_limit(row.run, _images(row, row.run), row.cell.batch, row.inference.environment.cpus_usable)}"
        for row in rows
        if row.run is not None and row.inference is not None
    ]


def _limit(run: Measured, images: int, batch: int, cpus: int) -> str:
    """Return in words what keeps a row's whole rate from its core rate."""
    whole, core, spent = run.metrics.p_whole, run.metrics.p_core, run.time_spent
    cpu_s = spent.input_cpu / images
    if not run.execution.computes:
        return f"input, as nothing is computed. {spent.threads} threads feed {rate(whole)} images/s."
    feeds = f"the input of one image takes {1000 * cpu_s:.2f} ms of a CPU"
    if whole >= _KEEPS_UP * core:
        return f"the engine. {rate(whole)} of {rate(core)} images/s arrive; {feeds}."
    needed = math.ceil(core * cpu_s)
    one_thread = images / (spent.read + spent.decode + spent.resize)
    room = (run.settings.slots - run.settings.requests) * batch
    if room < spent.threads and room * one_thread < core:
        return (
            f"the ring of input slots. Those that are not in flight hold {count(room, 'image')}, so that no more than "
            f"{room} of {spent.threads} threads can work at a time: they feed {rate(room * one_thread)} images/s, the "
            f"engine could take {rate(core)}, and {rate(whole)} arrive. The engine should open with more slots."
        )
    if run.device_kind == "gpu":
        able = spent.threads * one_thread
        if able >= core:
            return (
                f"neither side alone. {spent.threads} threads could feed {rate(able)} images/s and the engine could "
                f"take {rate(core)}, but {rate(whole)} arrive: the loop waited {_share(spent, 'wait_input')} of the "
                f"time for input and {_share(spent, 'wait_engine')} for the engine."
            )
        return (
            f"input. {spent.threads} threads feed {rate(able)} images/s, the engine could take {rate(core)}; "
            f"{_cores(needed)} would feed it, since {feeds}."
        )
    return _shared_cores(run, cpus, cpu_s, feeds, needed)


def _shared_cores(run: Measured, cpus: int, cpu_s: float, feeds: str, needed: int) -> str:
    """Return in words how an engine on the CPU and its input share the cores.

    Both together take cpu_s + cpus / core seconds of a CPU for an image, so `cpus` CPUs deliver at most
    1 / (cpu_s / cpus + 1 / core) images/s.
    """
    whole, core, spent = run.metrics.p_whole, run.metrics.p_core, run.time_spent
    possible = 1 / (cpu_s / cpus + 1 / core)
    text = (
        f"the cores, which input and engine share. {feeds[0].upper()}{feeds[1:]} and its inference "
        f"{1000 * cpus / core:.1f} ms, so that {count(cpus, 'CPU')} can deliver {rate(possible)} images/s; "
        f"{rate(whole)} arrive"
    )
    if whole < _EXPLAINS * possible:
        waited = f"the loop waited {_share(spent, 'wait_input')} of the time for input and "
        waited += f"{_share(spent, 'wait_engine')} for the engine"
        if spent.wait_input < _SELDOM * spent.wall:
            text += f". The rest is the engine, slower in the passes than alone: {waited}"
        else:
            text += f". The rest is waiting for one another: {waited}"
    more = _cores(needed)
    return f"{text}. {more[0].upper()}{more[1:]} more for the input would let it reach {rate(core)}."


def startup_table(rows: Sequence[Row]) -> Table:
    """Return what a job costs before its first useful work: process start, loading, warm-up; medians in seconds."""
    groups: dict[str, dict[str, Record[Any]]] = {}
    for row in rows:
        for stage, path in row.paths.items():
            # What torch runs is the validation; its rows share it.
            engine = f" ({row.cell.engine})" if stage in ("engine", "inference") else ""
            if stage in row.records:
                groups.setdefault(f"{stage}{engine}", {})[str(path)] = row.records[stage]
    lines = []
    for name, members in groups.items():
        runs = [record.result for record in members.values() if isinstance(record.result, Measured)]
        lines.append(
            [
                name,
                str(len(members)),
                _median([record.start_s for record in members.values() if record.start_s is not None]),
                _median([run.startup.load_s for run in runs]),
                _median([run.startup.warmup_s for run in runs]),
            ]
        )
    return Table.of(["record", "jobs", "process start", "load", "warm-up"], lines, left=1)


def _median(values: Sequence[float]) -> str:
    return f"{statistics.median(values):.2f}" if values else BLANK


def _images(row: Row, run: Measured) -> int:
    """Return the images of all whole passes."""
    return (row.images.images if row.images else 0) * len(run.passes.whole)


def _milliseconds(seconds: float, images: int) -> str:
    return f"{1000 * seconds / images:.3g}"


def _share(spent: TimeSpent, name: str) -> str:
    return f"{100 * getattr(spent, name) / spent.wall:.0f} %"


def _cores(number: int) -> str:
    return "one core" if number == 1 else f"{number} cores"


def _name(row: Row) -> str:
    cell = row.cell
    return f"**{cell.engine} {cell.precision}, batch size {cell.batch}** ({cell.model} on {cell.device})"
