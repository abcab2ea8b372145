"""What every figure of the report means: the one place where it is said.

The report prints these texts, and docs/metrics.md holds them between two marks;
`python -m stagebench.report.definitions docs/metrics.md` writes them there anew, and a test compares the two.
"""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path

from stagebench.records import StagebenchError, replacing

BEGIN = "<!-- metrics: written by stagebench.report.definitions -->"
END = "<!-- metrics: end -->"


@dataclass(frozen=True)
class Metric:
    """A figure of the report."""

    name: str
    #: Empty where the figure has no unit.
    unit: str
    meaning: str
    #: How FlagPerf's figure of that name differs; empty where it is the same or FlagPerf has none.
    flagperf: str = ""
    #: The columns of table.csv that hold it.
    columns: tuple[str, ...] = ()


#: The original's metrics, in the order of its list of indicators.
ORIGINAL = (
    Metric(
        "precision",
        "",
        "the arithmetic that the engine was asked for: fp32, tf32, fp16, bf16, int8 or fp8. "
        "An engine that would silently compute in another one gets no row of figures but the reason.",
        "fp16 or fp32; its fp32 is TF32, since nothing switches TensorRT's default off",
        ("precision",),
    ),
    Metric(
        "bs",
        "images",
        "batch size: images per request. The last batch of a pass is padded, and the padding is not counted.",
        "an incomplete last batch is dropped: 49,920 of ImageNet's 50,000 images at batch size 256",
        ("bs",),
    ),
    Metric(
        "mem",
        "GiB",
        "peak memory used during the run, and what the device has: device memory of this process on a GPU, "
        "resident memory of this process on a CPU.",
        "maximum over all GPUs and processes of the host and over the whole run, the engine's build included",
        ("mem_used_gib", "mem_total_gib"),
    ),
    Metric(
        "e2e_time",
        "s",
        "sum of the recorded wall times of every stage on the row's chain, from the extraction of the archive to "
        "the last timed pass. Downloads are left out. A stage that several rows share counts in full in each of "
        "them, so neither caching nor the order of the jobs changes the figure.",
        "wall time of one run: download of the weights, validation, export, a pause of 10 s, the build with "
        "trtexec's own benchmark, inference",
        ("e2e_time_s",),
    ),
    Metric(
        "p_val_whole",
        "images/s",
        "images times passes over the wall time of the framework's (torch's) passes, from opening the first file to "
        "the last prediction: read, decode, resize, transfer, compute, top-k. Process start, loading and warm-up "
        "are outside. int8 and fp8 rows show the fp32 run.",
        "includes the start of the loader's workers in every pass; no warm-up",
        ("p_val_whole",),
    ),
    Metric(
        "p_val_core",
        "images/s",
        "images over the framework's compute time with the inputs resident on the device: no input or output of "
        "any kind.",
        "includes the copy of images and labels to the device",
        ("p_val_core",),
    ),
    Metric(
        "p_infer_whole",
        "images/s",
        "as p_val_whole, for the engine.",
        "includes the start of the loader's workers in every pass; no warm-up",
        ("p_infer_whole",),
    ),
    Metric(
        "p_infer_core",
        "images/s",
        "as p_val_core, for the engine: the inputs are resident, requests follow each other without draining in "
        "between.",
        "includes the copy to the device and the first batch; what it times is p_infer_device here",
        ("p_infer_core",),
    ),
    Metric(
        "latency",
        "μs or ms",
        "1 / p_infer_core: the reciprocal throughput per image, as in the original. It is not the time that a "
        "single request takes.",
        "the same",
        ("latency_us",),
    ),
    Metric(
        "acc (infer/val)",
        "%",
        "share of all images whose class comes first, for the engine and for the framework (top-1).",
        "mean over the full batches only",
        ("acc_infer", "acc_val"),
    ),
)

#: What the original does not have, in the order of the report's second table.
ADDED = (
    Metric(
        "p_infer_device",
        "images/s",
        "images over the sum of copying in, computing and copying out, timed on the device for each request of the "
        "whole passes. On a CPU engine there is nothing to copy, but the decoder competes for the cores.",
    ),
    Metric(
        "p_infer_cached",
        "images/s",
        "as p_infer_whole, but reading the pixels decoded once into a file instead of JPEGs: what the run "
        "would reach if decoding cost nothing. Blank where the pixels are switched off.",
    ),
    Metric(
        "whole/core",
        "%",
        "p_infer_whole over p_infer_core: how much of what the engine can compute arrives at the end of the chain.",
    ),
    Metric(
        "passes",
        "images/s",
        "slowest and fastest of the R passes behind p_infer_whole, each as images over its own wall time.",
    ),
    Metric(
        "top-5 (infer/val)",
        "%",
        "share of all images whose class is among the first five, for the engine and for the framework.",
    ),
    Metric(
        "executed",
        "",
        "the precision read back from the loaded engine, not the one asked for.",
    ),
    Metric(
        "settings",
        "",
        "how the engine ran: threads and streams of the library, requests in flight, and threads that read and "
        "decode. Each engine uses what serves throughput best on a machine's CPUs; docs/benchmarks.md says how "
        "that was settled.",
    ),
    Metric(
        "unsteady",
        "images",
        "images whose predicted classes were not the same in every pass: 0 for an engine that computes "
        "the same thing each time.",
    ),
)


def as_markdown() -> str:
    """Return all definitions as two Markdown lists, FlagPerf's own meaning beside ours where they differ."""
    parts = ["In the order of FlagPerf's list:", _list(ORIGINAL), "What FlagPerf does not have:", _list(ADDED)]
    return "\n\n".join(parts)


def write_into(document: Path) -> None:
    """Replace what stands between the two marks of a document by the definitions.

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
