"""Why a run delivers less than its engine computes: where the time of the passes went, and what limits each row."""

from __future__ import annotations

import math
import statistics
from typing import TYPE_CHECKING, Any

from stagebench.report import formatting
from stagebench.report.formatting import BLANK, rate

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from stagebench.report.chain import Row

# Above this share of core the input side is as good as free.
_KEEPS_UP = 0.95
# A sharing of cores that predicts the measured rate this closely explains it.
_EXPLAINS = 0.9
# Below this share of the time input is not what the loop waits for.
_SELDOM = 0.05
_PHASES = ("read", "decode", "resize", "h2d", "compute", "d2h", "top_k")
_WAITS = ("wait_slot", "wait_input", "wait_engine")


def breakdown_table(rows: Sequence[Row]) -> str:
    """Return where the time of each measured row's passes went, in milliseconds per image; empty without any."""
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
        if row.ok:
            spent, images = row.records["inference"]["breakdown"], _images(row)
            figures = [_milliseconds(spent[name], images) for name in (*_PHASES, *_WAITS, "wall")]
            lines.append([*row.key, *figures])
    return formatting.table(headers, lines, left=4) if lines else ""


def sentences(rows: Sequence[Row]) -> list[str]:
    """Say for each measured row what limits it."""
    return [f"{_name(row)}: {_limit(row)}" for row in rows if row.ok]


def _limit(row: Row) -> str:
    """Say in words what keeps a row's whole rate from its core rate."""
    record = row.records["inference"]
    whole, core = float(row.metrics["p_whole"]), float(row.metrics["p_core"])
    spent, images = record["breakdown"], _images(row)
    cpu_s = spent["input_cpu"] / images
    if record["execution"].get("computes") == "nothing":
        return f"input, as nothing is computed. {spent['threads']} threads feed {rate(whole)} images/s."
    feeds = f"the input of one image takes {1000 * cpu_s:.2f} ms of a CPU"
    if whole >= _KEEPS_UP * core:
        return f"the engine. {rate(whole)} of {rate(core)} images/s arrive; {feeds}."
    needed = math.ceil(core * cpu_s)
    if record["device_kind"] == "gpu":
        able = spent["threads"] * images / (spent["read"] + spent["decode"] + spent["resize"])
        if able >= core:
            return (
                f"neither side alone. {spent['threads']} threads could feed {rate(able)} images/s and the engine could "
                f"take {rate(core)}, but {rate(whole)} arrive: the loop waited {_share(spent, 'wait_input')} of the "
                f"time for input and {_share(spent, 'wait_engine')} for the engine."
            )
        return (
            f"input. {spent['threads']} threads feed {rate(able)} images/s, the engine could take {rate(core)}; "
            f"{_cores(needed)} would feed it, since {feeds}."
        )
    return _shared_cores(record, whole, core, cpu_s, feeds, needed)


def _shared_cores(record: Mapping[str, Any], whole: float, core: float, cpu_s: float, feeds: str, needed: int) -> str:
    """Say how an engine on the CPU and its input share the cores.

    Both together take cpu_s + cpus / core seconds of a CPU for an image, so `cpus` CPUs deliver at most
    1 / (cpu_s / cpus + 1 / core) images/s.
    """
    cpus = len(record["measurement"]["cpus"])
    possible = 1 / (cpu_s / cpus + 1 / core)
    text = (
        f"the cores, which input and engine share. {feeds[0].upper()}{feeds[1:]} and its inference "
        f"{1000 * cpus / core:.1f} ms, so that {cpus} CPUs can deliver {rate(possible)} images/s; {rate(whole)} arrive"
    )
    if whole < _EXPLAINS * possible:
        spent = record["breakdown"]
        waited = f"the loop waited {_share(spent, 'wait_input')} of the time for input and "
        waited += f"{_share(spent, 'wait_engine')} for the engine"
        if spent["wait_input"] < _SELDOM * spent["wall"]:
            text += f". The rest is the engine, slower in the passes than alone: {waited}"
        else:
            text += f". The rest is waiting for one another: {waited}"
    more = _cores(needed)
    return f"{text}. {more[0].upper()}{more[1:]} more for the input would let it reach {rate(core)}."


def startup_table(rows: Sequence[Row]) -> str:
    """Return what a job costs before it does anything useful: process start, loading, warm-up; medians in seconds."""
    seen: dict[str, Mapping[str, Any]] = {}
    for row in rows:
        seen |= {str(path): row.records[stage] for stage, path in row.paths.items()}
    groups: dict[str, list[Mapping[str, Any]]] = {}
    for record in seen.values():
        cell = record.get("cell") or {}
        engine = f" ({cell['engine']})" if "engine" in cell else ""
        groups.setdefault(f"{record['kind']}{engine}", []).append(record)
    lines = []
    for name, members in groups.items():
        startups = [member["startup"] for member in members if "startup" in member]
        lines.append(
            [
                name,
                str(len(members)),
                _median([member["start_s"] for member in members if member.get("start_s") is not None]),
                _median([startup["load_s"] for startup in startups]),
                _median([startup["warmup_s"] for startup in startups]),
            ]
        )
    return formatting.table(["record", "jobs", "process start", "load", "warm-up"], lines, left=1)


def _median(values: Sequence[float]) -> str:
    return f"{statistics.median(values):.2f}" if values else BLANK


def _images(row: Row) -> int:
    record = row.records["inference"]
    return int(record["dataset"]["images"]) * len(record["passes"]["whole"])


def _milliseconds(seconds: float, images: int) -> str:
    return f"{1000 * seconds / images:.3g}"


def _share(spent: Mapping[str, float], name: str) -> str:
    return f"{100 * spent[name] / spent['wall']:.0f} %"


def _cores(number: int) -> str:
    return "one core" if number == 1 else f"{number} cores"


def _name(row: Row) -> str:
    device, model, engine, precision, batch = row.key
    return f"**{engine} {precision}, batch size {batch}** ({model} on {device})"
