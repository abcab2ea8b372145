"""From a torch module to ONNX, compared with torch on real images."""

from __future__ import annotations

import io
import warnings
from pathlib import Path
from typing import Any

import torch

from stagebench.dataset.manifest import validation_rows
from stagebench.model import checks
from stagebench.model.architecture import Classifier, load_module
from stagebench.model.batches import batches
from stagebench.preprocessing import Preprocessing
from stagebench.records.data import DatasetRecord
from stagebench.records.envelope import FileEntry, Record, Stopwatch, passed_on
from stagebench.records.io import replacing, versions
from stagebench.records.models import Difference, Exported, ExportedRecord, WeightsRecord

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
    preprocessing: Preprocessing,
    manifest: Path,
    dataset_record: Path,
) -> None:
    """Export the classifier (uint8 [batch, crop, crop, 3] to float32 logits) and compare it with torch.

    Raises:
        StagebenchError: the exported graph is invalid, or its outputs are not torch's.
    """
    watch = Stopwatch()
    made_from = WeightsRecord.read(weights_record)
    sources: list[Record[Any]] = [made_from, DatasetRecord.read(dataset_record)]
    if passed_on(ExportedRecord, record, watch, sources=sources, outputs={"onnx": out}):
        return
    classifier = Classifier(load_module(architecture, weights), preprocessing).eval()
    with replacing(out) as part:
        part.write_bytes(to_onnx(classifier, preprocessing))
    images = next(batches(manifest, validation_rows(manifest, None)[: checks.COMPARED], preprocessing, checks.COMPARED))
    with torch.no_grad():
        wanted = classifier(torch.from_numpy(images)).numpy()
    off = checks.require_equal(checks.run(out, images), wanted, f"{out} against torch")
    ExportedRecord.make(
        watch,
        result=Exported(
            graph=checks.check_graph(out),
            compared=Difference(reference="torch", images=len(images), largest_difference=off),
        ),
        inputs={"weights": made_from.outputs["weights"]},
        outputs={"onnx": FileEntry.of(out)},
        versions=versions("torch", "torchvision", "onnx", "onnxruntime"),
    ).write(record)


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
