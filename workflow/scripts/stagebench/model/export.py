"""From a torch module to ONNX, compared with torch on real images."""

from __future__ import annotations

import io
import warnings
from pathlib import Path

import torch

from stagebench.model import checks
from stagebench.model.architecture import Classifier, load_module
from stagebench.model.batches import validation_images
from stagebench.preprocessing import Preprocessing
from stagebench.records.data import DatasetRecord
from stagebench.records.envelope import FileEntry, Stopwatch, passed_on
from stagebench.records.failures import failure_recorded
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

    An export that fails, an invalid graph and outputs that are not torch's become a record in the state "failed".

    Raises:
        ChangedError: an input is not what its record describes.
    """
    watch = Stopwatch()
    made_from, dataset = WeightsRecord.read(weights_record), DatasetRecord.read(dataset_record)
    outputs = {"onnx": out}
    if passed_on(ExportedRecord, record, watch, sources=[made_from, dataset], outputs=outputs):
        return
    made_from.artifact("weights", weights).verify()
    dataset.artifact("manifest", manifest).verify()
    with failure_recorded(ExportedRecord, record, watch, outputs=outputs):
        classifier = Classifier(load_module(architecture, weights), preprocessing).eval()
        with replacing(out) as part:
            part.write_bytes(to_onnx(classifier, preprocessing))
        images = validation_images(manifest, checks.COMPARED, preprocessing)
        with torch.no_grad():
            wanted = classifier(torch.from_numpy(images)).numpy()
        off = checks.require_equal(checks.run(out, images), wanted, f"{out} against torch")
        ExportedRecord.make(
            watch,
            result=Exported(
                graph=checks.check_graph(out),
                compared=Difference(reference="torch", images=len(images), largest_difference=off),
            ),
            inputs={"weights": made_from.outputs["weights"], "manifest": dataset.outputs["manifest"]},
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
