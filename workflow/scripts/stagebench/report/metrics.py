"""The registry of metrics: what each figure is called, means and is read from. Tables and documents are made from it.

Reports print the definitions, and docs/metrics.md has them between two marks; `make metrics` writes them there, and a
test compares the two.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from stagebench.errors import StagebenchError
from stagebench.records.cells import Measured, Metrics
from stagebench.records.io import replacing
from stagebench.report.formatting import BLANK, count, gib, latency, pair, percent, rate, seconds, text
from stagebench.report.rows import Row
from stagebench.vocabulary import PRECISIONS

BEGIN = "<!-- metrics: written by stagebench.report.metrics -->"
END = "<!-- metrics: end -->"
_GIB = 2**30

Scalar = float | int | str | None


@dataclass(frozen=True)
class Part:
    """One value of a metric: how it is read from a row (None if it was not measured), and its column of table.csv."""

    value: Callable[[Row], Scalar]
    #: Empty for a value that the file does not have.
    csv: str = ""


@dataclass(frozen=True)
class Metric:
    """A figure of the report."""

    name: str
    #: Empty for a figure without a unit.
    unit: str
    meaning: str
    parts: tuple[Part, ...]
    #: Formats the values of all parts.
    format: Callable[..., str]
    #: How FlagPerf's figure of that name differs; empty if it is the same or FlagPerf has none.
    flagperf: str = ""
    #: Whether the column's header names the unit.
    unit_in_header: bool = False

    @property
    def header(self) -> str:
        """The header of its column."""
        return f"{self.name} ({self.unit})" if self.unit_in_header else self.name

    def text(self, row: Row) -> str:
        """Return its text in a row's column."""
        return self.format(*(part.value(row) for part in self.parts))


def _run(read: Callable[[Measured], Scalar]) -> Callable[[Row], Scalar]:
    """Read a value from the engine's run."""
    return lambda row: None if row.run is None else read(row.run)


def _reference(read: Callable[[Metrics], Scalar]) -> Callable[[Row], Scalar]:
    """Read a value from the framework's run, in rows that were measured."""
    return lambda row: None if row.run is None or row.reference is None else read(row.reference)


def _pass_rates(row: Row) -> list[float]:
    """Return images/s of each whole pass."""
    if row.run is None or row.images is None:
        return []
    return [row.images.images / taken for taken in row.run.passes.whole]


def _passes(slowest: float | None, fastest: float | None, number: int | None) -> str:
    return BLANK if number is None else f"{rate(slowest)} to {rate(fastest)} ({number})"


def executed(run: Measured) -> str:
    """Return what the loaded engine computes in: its layers that multiply, counted by type."""
    if not run.execution.computes:
        return "nothing"
    return (
        ", ".join(f"{number} x {name}" for name, number in run.execution.executed.items())
        or "not reported by the engine"
    )


def settings(run: Measured) -> str:
    """Return what a run's rate depends on in addition to the file: threads, streams, requests, decoding threads."""
    counted = {
        "thread": run.execution.threads,
        "stream": run.execution.streams,
        "request": run.settings.requests,
    }
    named = [count(number, name) for name, number in counted.items() if number is not None]
    return ", ".join([*named, f"{run.settings.decode_threads} to decode"])


#: The original's metrics, in the order of its list of indicators.
ORIGINAL = (
    Metric(
        "precision",
        "",
        f"the arithmetic that was asked for: {', '.join(list(PRECISIONS)[:-1])} or {list(PRECISIONS)[-1]}. "
        "An engine that would silently compute in another one shows the reason instead of figures.",
        (Part(lambda row: row.cell.precision, "precision"),),
        text,
        "fp16 or fp32; its fp32 is TF32, since nothing switches TensorRT's default off",
    ),
    Metric(
        "bs",
        "images",
        "batch size: images per request. The last batch of a pass is padded, and the padding is not counted.",
        (Part(lambda row: row.cell.batch, "bs"),),
        text,
        "an incomplete last batch is dropped: 49,920 of ImageNet's 50,000 images at batch size 256",
    ),
    Metric(
        "mem",
        "GiB",
        "peak memory used during the run, and what the device has: device memory of this process on a GPU, "
        "resident memory of this process on a CPU.",
        (
            Part(_run(lambda run: run.memory.used_bytes / _GIB), "mem_used_gib"),
            Part(_run(lambda run: run.memory.total_bytes / _GIB), "mem_total_gib"),
        ),
        gib,
        "maximum over all GPUs and processes of the host and over the whole run, the engine's build included",
        unit_in_header=True,
    ),
    Metric(
        "e2e_time",
        "s",
        "sum of the recorded wall times of every stage on the row's chain, from the extraction of the archive to "
        "the last timed pass. Downloads are left out. A stage that several rows share counts in full in each of "
        "them. Stages that prepare files may run side by side and then take longer than alone.",
        (Part(lambda row: sum(row.seconds().values()) if row.ok else None, "e2e_time_s"),),
        seconds,
        "wall time of one run: download of the weights, validation, export, a pause of 10 s, the build with "
        "trtexec's own benchmark, inference",
        unit_in_header=True,
    ),
    Metric(
        "p_val_whole",
        "images/s",
        "images times passes over the wall time of the framework's (torch's) passes, from opening the first file to "
        "the last prediction: read, decode, resize, transfer, compute, top-k. Process start, loading and warm-up "
        "are outside. int8 and fp8 rows show the fp32 run.",
        (Part(_reference(lambda metrics: metrics.p_whole), "p_val_whole"),),
        rate,
        "includes the start of the loader's workers in every pass; no warm-up",
    ),
    Metric(
        "p_val_core",
        "images/s",
        "images over the framework's compute time with the inputs resident on the device: no input or output of "
        "any kind.",
        (Part(_reference(lambda metrics: metrics.p_core), "p_val_core"),),
        rate,
        "includes the copy of images and labels to the device",
    ),
    Metric(
        "p_infer_whole",
        "images/s",
        "as p_val_whole, for the engine.",
        (Part(_run(lambda run: run.metrics.p_whole), "p_infer_whole"),),
        rate,
        "includes the start of the loader's workers in every pass; no warm-up",
    ),
    Metric(
        "p_infer_core",
        "images/s",
        "as p_val_core, for the engine: the inputs are resident, requests follow each other without draining in "
        "between.",
        (Part(_run(lambda run: run.metrics.p_core), "p_infer_core"),),
        rate,
        "includes the copy to the device and the first batch; what it times is p_infer_device here",
    ),
    Metric(
        "latency",
        "μs or ms",
        "1 / p_infer_core: the reciprocal throughput per image, as in the original. It is not the time that a "
        "single request takes.",
        (Part(_run(lambda run: run.metrics.latency_us), "latency_us"),),
        latency,
        "the same",
    ),
    Metric(
        "acc (infer/val)",
        "%",
        "share of all images whose class comes first, for the engine and for the framework (top-1).",
        (
            Part(_run(lambda run: run.metrics.top1), "acc_infer"),
            Part(_reference(lambda metrics: metrics.top1), "acc_val"),
        ),
        pair,
        "mean over the full batches only",
    ),
)

#: What the original does not have, in the order of the report's second table.
ADDED = (
    Metric(
        "p_infer_device",
        "images/s",
        "images over the sum of copying in, computing and copying out, timed on the device for each request of the "
        "whole passes. On a CPU engine there is nothing to copy, but the decoder competes for the cores, and requests "
        "that overlap count in full.",
        (Part(_run(lambda run: run.metrics.p_device)),),
        rate,
    ),
    Metric(
        "p_infer_cached",
        "images/s",
        "as p_infer_whole, but reading images decoded once into a file instead of JPEGs, as many of them as take about "
        "a second: what the run would reach if decoding cost nothing. Blank if decoded images are not kept.",
        (Part(_run(lambda run: run.metrics.p_cached)),),
        rate,
    ),
    Metric(
        "whole/core",
        "%",
        "p_infer_whole over p_infer_core: how much of what the engine can compute arrives at the end of the chain.",
        (Part(_run(lambda run: 100 * run.metrics.p_whole / run.metrics.p_core)),),
        lambda share: percent(share, 1),
    ),
    Metric(
        "passes",
        "images/s",
        "slowest and fastest of the R passes behind p_infer_whole, each as images over its own wall time.",
        (
            Part(lambda row: min(_pass_rates(row), default=None)),
            Part(lambda row: max(_pass_rates(row), default=None)),
            Part(lambda row: len(_pass_rates(row)) or None),
        ),
        _passes,
    ),
    Metric(
        "top-5 (infer/val)",
        "%",
        "share of all images whose class is among the first five, for the engine and for the framework.",
        (Part(_run(lambda run: run.metrics.top5)), Part(_reference(lambda metrics: metrics.top5))),
        pair,
    ),
    Metric(
        "executed",
        "",
        "layers that multiply, by the type they compute in, read back from the loaded engine and never from what was "
        "asked for. The names are the library's.",
        (Part(_run(executed)),),
        text,
    ),
    Metric(
        "settings",
        "",
        "how the engine ran: threads and streams of the library, requests in flight, and threads that read and "
        "decode. Each engine uses what serves throughput best on a machine's CPUs; docs/benchmarks.md says how "
        "that was settled.",
        (Part(_run(settings)),),
        text,
    ),
    Metric(
        "unsteady",
        "images",
        "images whose predicted classes were not the same in every pass: 0 for an engine that computes "
        "the same thing each time.",
        (Part(_run(lambda run: run.unsteady_predictions)),),
        text,
    ),
)

METRICS = (*ORIGINAL, *ADDED)


def as_markdown() -> str:
    """Return all definitions as two Markdown lists, with FlagPerf's own meaning where it differs."""
    parts = ["In the order of FlagPerf's list:", _list(ORIGINAL), "What FlagPerf does not have:", _list(ADDED)]
    return "\n\n".join(parts)


def write_into(document: Path) -> None:
    """Replace what is between the two marks of a document by the definitions.

    Raises:
        StagebenchError: the document lacks the marks.
    """
    text = document.read_text(encoding="utf-8")
    head, begin, rest = text.partition(BEGIN)
    _, end, tail = rest.partition(END)
    if not (begin and end):
        raise StagebenchError(f"{document}: the marks {BEGIN} and {END} are missing; put them where the list belongs")
    with replacing(document) as part:
        part.write_text(f"{head}{BEGIN}\n\n{as_markdown()}\n\n{END}{tail}", encoding="utf-8")


def _list(metrics: tuple[Metric, ...]) -> str:
    return "\n".join(_item(metric) for metric in metrics)


def _item(metric: Metric) -> str:
    unit = f" ({metric.unit})" if metric.unit else ""
    original = f" *FlagPerf: {metric.flagperf}.*" if metric.flagperf else ""
    return f"* **{metric.name}**{unit}: {metric.meaning}{original}"


if __name__ == "__main__":
    write_into(Path(sys.argv[1]))
