"""Files to predictions, against a loop as FlagPerf has it: ImageFolder, DataLoader, one synchronous call a batch."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import artifacts
import numpy as np
from pairs import Figure, ratio_of_rates, seconds

from stagebench.dataset.decode import resample
from stagebench.host import cpus
from stagebench.measure.feeding import Feeder, Files
from stagebench.measure.scenarios.offline import run_passes
from stagebench.preprocessing import Preprocessing

PAIRS = 5
STEADY_PAIRS = 3
# Passes over the validation images in one measurement.
PASSES = {"fp32": 2, "int8": 4}


def image_folder() -> Any:
    """Return the validation images as torchvision's ImageFolder.

    The engine file scales and normalises by itself, so the loader ends with bytes, which spares it two steps.
    """
    from torchvision import datasets, transforms

    chosen = {str(artifacts.MANIFEST.parent / row.path) for row in artifacts.validation_images()}
    chain = transforms.Compose([transforms.Resize(256), transforms.CenterCrop(224), transforms.PILToTensor()])
    return datasets.ImageFolder(str(artifacts.IMAGES), chain, is_valid_file=lambda path: str(Path(path)) in chosen)


def loop(compiled: Any, images: Any, passes: int) -> float:
    """Return images per second of `passes` iterations over a data set; each starts its workers, as in FlagPerf."""
    import torch

    request = compiled.create_infer_request()
    loader = torch.utils.data.DataLoader(
        images,
        batch_size=artifacts.BATCH,
        num_workers=cpus.usable(),
        pin_memory=torch.cuda.is_available(),
        drop_last=True,
    )

    def run() -> None:
        for _ in range(passes):
            for batch, _ in loader:
                logits = request.infer({0: np.ascontiguousarray(batch.permute(0, 2, 3, 1).numpy())})[0]
                logits.argmax(axis=1)

    taken = seconds(run)
    return passes * (len(images) // artifacts.BATCH * artifacts.BATCH) / taken


def steady_loop(compiled: Any, passes: int) -> float:
    """Return images per second of one iteration over as many images: the start of its workers hardly counts."""
    import torch

    return loop(compiled, torch.utils.data.ConcatDataset([image_folder()] * passes), 1)


def best_peer(precision: str) -> Any:
    """Return the engine's own file, loaded with the number of streams that serves the loop best."""
    import openvino

    settings = artifacts.build_record("openvino", precision).found.settings
    usual = settings["NUM_STREAMS"]
    assert isinstance(usual, int)
    blob = artifacts.engine_file("openvino", precision).read_bytes()
    candidates = [
        openvino.Core().import_model(blob, "CPU", {**settings, "NUM_STREAMS": streams})
        for streams in sorted({1, usual})
    ]
    return max(candidates, key=lambda compiled: steady_loop(compiled, PASSES[precision]))


def ratios(precision: str) -> dict[str, Figure]:
    """Return our whole rate over the loop's, by turns, and both rates; and the ratio where the loop starts but once."""
    files = Files(artifacts.MANIFEST, artifacts.validation_images(), Preprocessing())
    passes = PASSES[precision]
    compiled, images = best_peer(precision), image_folder()
    with artifacts.open_session("openvino", precision) as session:

        def run() -> None:
            with Feeder(files, cpus.usable()) as feeder:
                run_passes(session, feeder, passes)

        def ours() -> float:
            return len(files) * passes / seconds(run)

        ours()
        whole, mine, theirs = ratio_of_rates(ours, lambda: loop(compiled, images, passes), PAIRS)
        steady, _, _ = ratio_of_rates(ours, lambda: steady_loop(compiled, passes), STEADY_PAIRS)
    return {"whole_ratio": whole, "whole_rate": mine, "loop_rate": theirs, "whole_ratio_steady": steady}


def measure() -> dict[str, Any]:
    """Return `whole_ratio`, both rates and `whole_ratio_steady`, per precision."""
    resample.load_kernels()
    results: dict[str, Any] = {}
    for precision in artifacts.PRECISIONS:
        for name, value in ratios(precision).items():
            results.setdefault(name, {})[precision] = value
    return results
