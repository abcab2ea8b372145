"""Files to predictions, against a loop as FlagPerf has it: ImageFolder, DataLoader, one synchronous call a batch."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import artifacts
import numpy as np
from pairs import Figure, ratio_of_rates, seconds

from stagebench.dataset import resample
from stagebench.measure.feeding import Feeder, Files
from stagebench.measure.passes import run_passes
from stagebench.preprocessing import Preprocessing

PAIRS = 5
# Passes of one measurement: both sides start their threads or workers once in each.
PASSES = {"fp32": 2, "int8": 8}


def images_to_feed(passes: int) -> Any:
    """Return the validation images as an ImageFolder, `passes` times over, as the loop's data set.

    The engine file scales and normalises by itself, so the loader ends with bytes, which spares it two steps.
    """
    import torch
    from torchvision import datasets, transforms

    chosen = {str(artifacts.MANIFEST.parent / row.path) for row in artifacts.validation_images()}
    chain = transforms.Compose([transforms.Resize(256), transforms.CenterCrop(224), transforms.PILToTensor()])
    folder = datasets.ImageFolder(str(artifacts.IMAGES), chain, is_valid_file=lambda path: str(Path(path)) in chosen)
    return torch.utils.data.ConcatDataset([folder] * passes)


def loop(compiled: Any, passes: int) -> float:
    """Return images per second of the loop, its workers' start included, as in FlagPerf."""
    import torch

    request = compiled.create_infer_request()
    images = images_to_feed(passes)
    loader = torch.utils.data.DataLoader(
        images,
        batch_size=artifacts.BATCH,
        num_workers=len(os.sched_getaffinity(0)),
        pin_memory=torch.cuda.is_available(),
        drop_last=True,
    )

    def run() -> None:
        for batch, _ in loader:
            logits = request.infer({0: np.ascontiguousarray(batch.permute(0, 2, 3, 1).numpy())})[0]
            logits.argmax(axis=1)

    taken = seconds(run)
    return len(images) // artifacts.BATCH * artifacts.BATCH / taken


def best_peer(precision: str) -> Callable[[], float]:
    """Return the loop over the engine's own file, on the number of streams that serves it best."""
    import openvino

    record = artifacts.build_record("openvino", precision)
    settings = record["build"]["settings"]
    blob = artifacts.engine_file("openvino", precision).read_bytes()
    candidates = {}
    for streams in sorted({1, settings["NUM_STREAMS"]}):
        compiled = openvino.Core().import_model(blob, "CPU", {**settings, "NUM_STREAMS": streams})
        candidates[streams] = compiled
    rates = {streams: loop(compiled, PASSES[precision]) for streams, compiled in candidates.items()}
    chosen = candidates[max(rates, key=lambda streams: rates[streams])]
    return lambda: loop(chosen, PASSES[precision])


def ratio(precision: str) -> tuple[Figure, Figure, Figure]:
    """Return our whole rate over the loop's, by turns, and both rates."""
    files = Files(artifacts.MANIFEST, artifacts.validation_images(), Preprocessing())
    passes = PASSES[precision]
    theirs = best_peer(precision)
    with artifacts.open_session("openvino", precision) as session:

        def ours() -> float:
            begin_to_end = seconds(run)
            return len(files) * passes / begin_to_end

        def run() -> None:
            with Feeder(files, len(os.sched_getaffinity(0))) as feeder:
                run_passes(session, feeder, passes)

        ours()
        return ratio_of_rates(ours, theirs, PAIRS)


def measure() -> dict[str, Any]:
    """Return `whole_ratio` and both rates, per precision."""
    resample.load_kernels()
    results: dict[str, Any] = {}
    for precision in artifacts.PRECISIONS:
        for name, value in zip(("whole_ratio", "whole_rate", "loop_rate"), ratio(precision), strict=True):
            results.setdefault(name, {})[precision] = value
    return results
