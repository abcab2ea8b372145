"""The report's tables of measured figures."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from stagebench.report import formatting
from stagebench.report.formatting import BLANK, gib, latency, percent, rate, seconds
from stagebench.report.table import e2e_seconds

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from stagebench.report.chain import Row
    from stagebench.report.reference import PublishedRow

_NAMES = ("device", "model", "engine")
#: FlagPerf's columns in its order; the first ones name the row.
_ORIGINAL = (
    "precision",
    "bs",
    "e2e_time (s)",
    "p_val_whole",
    "p_val_core",
    "p_infer_whole",
    "p_infer_core",
    "latency",
    "acc (infer/val)",
    "mem (GiB)",
)
_ADDED = (
    "p_infer_device",
    "p_infer_cached",
    "whole/core",
    "passes",
    "top-5 (infer/val)",
    "executed",
    "settings",
    "unsteady",
)


def metric_table(rows: Sequence[Row], published: Sequence[PublishedRow]) -> str:
    """Return FlagPerf's metric table, in its layout: the rows of this run, then FlagPerf's published ones."""
    lines = [[*_names(row), *_original(row)] for row in rows]
    lines += [[*_published_names(row), *_published(row)] for row in published]
    return formatting.table([*_NAMES, *_ORIGINAL], lines, left=len(_NAMES) + 1)


def added_table(rows: Sequence[Row]) -> str:
    """Return the metrics that FlagPerf does not have, for the rows that were measured; empty without any."""
    lines = [[*_names(row), str(row.cell["precision"]), str(row.cell["batch"]), *_added(row)] for row in rows if row.ok]
    return formatting.table([*_NAMES, "precision", "bs", *_ADDED], lines, left=len(_NAMES) + 1) if lines else ""


def missing_table(rows: Sequence[Row]) -> str:
    """Return the rows that were not measured, with the state and the reason of each; empty without any."""
    lines = [[*_names(row), str(row.cell["precision"]), str(row.cell["batch"]), row.status, row.reason] for row in rows]
    headers = [*_NAMES, "precision", "bs", "status", "reason"]
    return formatting.table(headers, lines, left=len(headers)) if lines else ""


def summary(rows: Sequence[Row]) -> list[str]:
    """Say in sentences what was measured, and which row is the fastest of each model on each device."""
    measured = [row for row in rows if row.ok]
    lines = [f"{len(measured)} of {len(rows)} cells were measured."]
    groups: dict[tuple[str, str], list[Row]] = {}
    for row in measured:
        groups.setdefault((str(row.cell["device"]), str(row.cell["model"])), []).append(row)
    for (device, model), members in groups.items():
        best = max(members, key=lambda row: float(row.metrics["p_whole"]))
        lines.append(
            f"On {device} the fastest way from the files of {model}'s data set to predictions is "
            f"{best.cell['engine']} in {best.cell['precision']} at batch size {best.cell['batch']}: "
            f"{rate(best.metrics['p_whole'])} images/s, of {rate(best.metrics['p_core'])} images/s that the engine "
            f"computes with its inputs resident, at a top-1 accuracy of {percent(best.metrics['top1'])} %."
        )
    return lines


def _names(row: Row) -> list[str]:
    return [str(row.cell[name]) for name in _NAMES]


def _original(row: Row) -> list[str]:
    name = [str(row.cell["precision"]), str(row.cell["batch"])]
    if not row.ok:
        return [*name, *[BLANK] * 7, row.status]
    engine, framework = row.metrics, row.reference
    return [
        *name,
        seconds(e2e_seconds(row)),
        rate(framework.get("p_whole")),
        rate(framework.get("p_core")),
        rate(engine["p_whole"]),
        rate(engine["p_core"]),
        latency(engine["latency_us"]),
        f"{percent(engine['top1'])}/{percent(framework.get('top1'))}",
        gib(engine["mem_used_gib"], engine["mem_total_gib"]),
    ]


def _published_names(row: PublishedRow) -> list[str]:
    return [f"*FlagPerf: {row.configuration}*", row.model, row.engine]


def _published(row: PublishedRow) -> list[str]:
    return [
        row.precision,
        str(row.batch),
        f"{row.e2e_time_s:.1f}",
        rate(row.p_val_whole),
        rate(row.p_val_core),
        rate(row.p_infer_whole),
        rate(row.p_infer_core),
        latency(row.latency_us),
        f"{percent(row.acc_infer, 2)}/{percent(row.acc_val, 2)}",
        gib(row.mem_used_gib, row.mem_total_gib),
    ]


def _added(row: Row) -> list[str]:
    engine, framework = row.metrics, row.reference
    record = row.records["inference"]
    images = record["dataset"]["images"]
    passes = [images / taken for taken in record["passes"]["whole"]]
    return [
        rate(engine["p_device"]),
        rate(engine["p_cached"]),
        percent(100 * engine["p_whole"] / engine["p_core"], 1),
        f"{rate(min(passes))} to {rate(max(passes))} ({len(passes)})",
        f"{percent(engine['top5'])}/{percent(framework.get('top5'))}",
        _executed(record["execution"]),
        _settings(record),
        str(record["unsteady_predictions"]),
    ]


def _settings(record: Mapping[str, Any]) -> str:
    """Return what a run's rate depends on beside the file: threads, streams, requests in flight, decoding threads."""
    execution = record["execution"]
    counted = {key: execution[key] for key in ("threads", "streams", "requests") if key in execution}
    named = [f"{number} {key if number != 1 else key.removesuffix('s')}" for key, number in counted.items()]
    return ", ".join([*named, f"{record['measurement']['decode_threads']} to decode"])


def _executed(execution: dict[str, Any]) -> str:
    """Return what the loaded engine computes in, as it says itself: its convolutions' types, or its weights'."""
    convolutions = execution.get("convolutions")
    if convolutions:
        return ", ".join(f"{number} x {name}" for name, number in convolutions.items())
    return str(execution.get("weights", execution["precision"]))
