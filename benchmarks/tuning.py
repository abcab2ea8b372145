"""Which settings serve the engines on CPUs best: all sensible combinations, by turns (`make bench-tuning`).

The settings in `engines/openvino.py`, `engines/onnxruntime.py` and `engines/torch/cpu.py` are what came out; a new
library version or another kind of CPU is reason to run it again. Rates of windows of int8 on two streams vary by tens
of percent, so every combination is measured in several rounds and its median counts.
"""

from __future__ import annotations

import logging
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import artifacts
import numpy as np
from pairs import figure

from stagebench.engines import registry
from stagebench.host import cpus as host_cpus
from stagebench.host import identity, lock
from stagebench.records.io import read_json, write_json
from stagebench.vocabulary import precision as known_precision

OUT = artifacts.ROOT / "results/bench/tuning.json"
ROUNDS = 3
SECONDS = 1.2
BATCHES = (1, 16)
_log = logging.getLogger("tuning")


@dataclass(frozen=True)
class Choice:
    """One combination: what names it, and one request or round of requests of so many images."""

    precision: str
    variant: str
    batch: int
    settings: str
    images: int
    run: Callable[[], Any]


def variants(precision: str) -> tuple[str, ...]:
    """Return the prepared files that a precision could be computed from."""
    return ("int8-cpu", "int8-tensorrt") if precision == "int8" else (precision,)


def is_supported(engine: str, precision: str) -> bool:
    """Return whether an engine really computes in a precision on this machine."""
    return registry.get(engine).support(known_precision(precision), identity.identity()).ok


def cpus() -> int:
    """Return how many CPUs there are to use."""
    return host_cpus.usable()


def model_of(variant: str) -> Path:
    """Return a prepared file."""
    return artifacts.ROOT / f"results/models/{artifacts.MODEL}/{variant}.onnx"


def openvino_choices() -> Iterator[Choice]:
    """Yield hints and numbers of streams; every stream has one request in flight."""
    import openvino

    core = openvino.Core()
    floats = {"fp32": "f32", "bf16": "bf16", "int8": "f32"}
    counts = sorted({1, 2, cpus()})
    plans: dict[str, dict[str, Any]] = {
        "hint LATENCY": {"PERFORMANCE_HINT": "LATENCY"},
        "hint THROUGHPUT": {"PERFORMANCE_HINT": "THROUGHPUT"},
        **{f"{count} streams": {"NUM_STREAMS": count, "INFERENCE_NUM_THREADS": cpus()} for count in counts},
        **{
            f"{count} streams, pinned": {
                "NUM_STREAMS": count,
                "INFERENCE_NUM_THREADS": cpus(),
                "ENABLE_CPU_PINNING": True,
            }
            for count in counts
        },
    }
    for precision, kind in floats.items():
        if not is_supported("openvino", precision):
            continue
        for variant in variants(precision):
            for batch in BATCHES:
                for name, settings in plans.items():
                    model = core.read_model(model_of(variant))
                    model.reshape([batch, 224, 224, 3])
                    compiled = core.compile_model(model, "CPU", {"INFERENCE_PRECISION_HINT": kind, **settings})
                    streams = int(compiled.get_property("NUM_STREAMS"))
                    requests = [compiled.create_infer_request() for _ in range(streams)]
                    for request in requests:
                        request.set_input_tensor(openvino.Tensor(np.zeros((batch, 224, 224, 3), np.uint8)))
                    yield Choice(precision, variant, batch, name, batch * streams, lambda each=requests: together(each))


def together(requests: list[Any]) -> None:
    """Run four rounds of requests without draining in between."""
    for turn in range(4):
        for request in requests:
            if turn:
                request.wait()
            request.start_async()
    for request in requests:
        request.wait()


def onnxruntime_choices() -> Iterator[Choice]:
    """Yield levels of optimisation (ALL takes blocked layouts, EXTENDED keeps NCHW) and spinning on and off."""
    import onnxruntime

    levels = onnxruntime.GraphOptimizationLevel
    for precision in ("fp32", "int8"):
        for variant in variants(precision):
            for batch in BATCHES:
                for level in (levels.ORT_ENABLE_ALL, levels.ORT_ENABLE_EXTENDED):
                    for spin in (True, False):
                        options = onnxruntime.SessionOptions()
                        options.add_free_dimension_override_by_name("batch", batch)
                        options.graph_optimization_level = level
                        options.intra_op_num_threads = cpus()
                        options.add_session_config_entry("session.intra_op.allow_spinning", str(int(spin)))
                        session = onnxruntime.InferenceSession(
                            str(model_of(variant)), options, providers=["CPUExecutionProvider"]
                        )
                        images = {"images": np.zeros((batch, 224, 224, 3), np.uint8)}
                        name = f"{level.name.removeprefix('ORT_ENABLE_')}, spinning {'on' if spin else 'off'}"
                        yield Choice(precision, variant, batch, name, batch, lambda s=session, i=images: s.run(None, i))


def torch_choices() -> Iterator[Choice]:
    """Yield memory formats and numbers of threads."""
    import torch

    from stagebench.engines.torch.model import load_classifier

    torch.set_grad_enabled(False)
    torch.set_num_threads(cpus())
    for precision in ("fp32", "bf16"):
        if not is_supported("torch", precision):
            continue
        file = artifacts.engine_file("torch", precision)
        for batch in BATCHES:
            for form in ("channels_last", "contiguous_format"):
                classifier, _ = load_classifier(file)
                classifier = classifier.to(memory_format=getattr(torch, form))
                images = torch.zeros((batch, 224, 224, 3), dtype=torch.uint8)
                yield Choice(precision, "weights", batch, form, batch, lambda c=classifier, i=images: c(i))


CHOICES: dict[str, Callable[[], Iterator[Choice]]] = {
    "openvino": openvino_choices,
    "onnxruntime": onnxruntime_choices,
    "torch": torch_choices,
}


def measure(engine: str) -> list[dict[str, Any]]:
    """Measure all combinations of one engine by turns; return them by precision and batch size, the fastest first."""
    from time import perf_counter

    choices = list(CHOICES[engine]())
    rates: dict[int, list[float]] = {number: [] for number in range(len(choices))}
    for choice in choices:
        choice.run()
    for _ in range(ROUNDS):
        for number, choice in enumerate(choices):
            times = 4 if engine == "openvino" else 1
            done, begin = 0, perf_counter()
            while (taken := perf_counter() - begin) < SECONDS:
                choice.run()
                done += times * choice.images
            rates[number].append(done / taken)
    rows = [
        {
            "engine": engine,
            "precision": choice.precision,
            "batch": choice.batch,
            "file": choice.variant,
            "settings": choice.settings,
            "rate": figure(rates[number], "images/s"),
        }
        for number, choice in enumerate(choices)
    ]
    return sorted(rows, key=lambda row: (row["precision"], row["batch"], -row["rate"]["median"]))


def main() -> None:
    """Measure every engine in a process of its own, print the table and write results/bench/tuning.json."""
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    if len(sys.argv) > 1:
        found = measure(sys.argv[1])
        write_json(OUT, [*(read_json(OUT) if OUT.exists() else []), *found])
        return
    artifacts.prepare()
    targets = [
        *(f"results/models/{artifacts.MODEL}/{name}.onnx" for name in ("bf16", "int8-tensorrt")),
        *(str(artifacts.engine_file("torch", name).relative_to(artifacts.ROOT)) for name in ("fp32", "bf16")),
    ]
    subprocess.run([sys.executable, "-m", "snakemake", "--cores", "2", *targets, "-q"], cwd=artifacts.ROOT, check=True)
    OUT.parent.mkdir(parents=True, exist_ok=True)
    OUT.unlink(missing_ok=True)
    for engine in CHOICES:
        _log.info("measuring: %s", engine)
        with lock.machine():
            subprocess.run([sys.executable, __file__, engine], cwd=artifacts.ROOT, check=True)
    for row in read_json(OUT):
        rate = row["rate"]
        _log.info(
            "%-12s %-5s bs %-3d %-16s %-24s %8.1f images/s (%.1f to %.1f)",
            *(row[key] for key in ("engine", "precision", "batch", "file", "settings")),
            *(rate[key] for key in ("median", "min", "max")),
        )


if __name__ == "__main__":
    main()
