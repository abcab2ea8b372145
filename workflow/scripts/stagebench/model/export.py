"""From a torch module to ONNX, compared with torch on real images."""

from __future__ import annotations

import io
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from stagebench import records
from stagebench.dataset.manifest import validation_rows
from stagebench.model import checks
from stagebench.model.architecture import Classifier, load_module
from stagebench.model.images import batches
from stagebench.preprocessing import Preprocessing

# fp8 quantisation needs 19; TensorRT 10 and 11, OpenVINO and ONNX Runtime all read 20, the highest that the
# TorchScript exporter writes.
OPSET = 20


def export_model(
    weights: Path,
    weights_record: Path,
    out: Path,
    record: Path,
    *,
    architecture: str,
    preprocessing: Mapping[str, Any],
    manifest: Path,
) -> None:
    """Export the classifier (uint8 [batch, crop, crop, 3] to float32 logits) and compare it with torch.

    Raises:
        StagebenchError: the exported graph is invalid, or its outputs are not torch's.
    """
    watch = records.Stopwatch()
    recipe = Preprocessing.model_validate(preprocessing)
    classifier = Classifier(load_module(architecture, weights), recipe).eval()
    with records.replacing(out) as part:
        part.write_bytes(to_onnx(classifier, recipe))
    images = next(batches(manifest, validation_rows(manifest, None)[: checks.COMPARED], recipe, checks.COMPARED))
    with torch.no_grad():
        wanted = classifier(torch.from_numpy(images)).numpy()
    off = checks.require_equal(checks.run(out, images), wanted, f"{out} against torch")
    records.write_json(
        record,
        records.make_record(
            "model",
            watch=watch,
            inputs={"weights": records.output_entry(records.read_record(weights_record), "weights")},
            outputs={"onnx": records.describe(out)},
            versions=records.versions("torch", "torchvision", "onnx", "onnxruntime"),
            **checks.check_graph(out),
            compared={"with": "torch", "images": len(images), "largest_difference": off},
        ),
    )


def to_onnx(classifier: Classifier, preprocessing: Preprocessing) -> bytes:
    """Return the ONNX file of a classifier, with a batch size that is open."""
    example = torch.zeros((2, preprocessing.crop, preprocessing.crop, 3), dtype=torch.uint8)
    buffer = io.BytesIO()
    with torch.no_grad(), warnings.catch_warnings():
        # The exporter that follows this one leaves float32 weights in bfloat16 graphs, so the older one is meant.
        warnings.simplefilter("ignore", DeprecationWarning)
        torch.onnx.export(
            classifier,
            (example,),
            buffer,  # type: ignore[arg-type]  # the older exporter writes to open files, too
            dynamo=False,
            opset_version=OPSET,
            input_names=[checks.INPUT],
            output_names=[checks.OUTPUT],
            dynamic_axes={checks.INPUT: {0: "batch"}, checks.OUTPUT: {0: "batch"}},
        )
    return buffer.getvalue()
