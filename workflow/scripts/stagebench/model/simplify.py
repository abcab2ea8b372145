"""An exported graph made simpler, and proven to compute the same."""

from __future__ import annotations

from pathlib import Path

import onnx
import onnxsim

from stagebench.errors import StagebenchError
from stagebench.model import checks
from stagebench.model.batches import validation_images
from stagebench.preprocessing import Preprocessing
from stagebench.records.data import DatasetRecord
from stagebench.records.envelope import FileEntry, Stopwatch, passed_on
from stagebench.records.failures import failure_recorded
from stagebench.records.io import replacing, versions
from stagebench.records.models import Difference, ExportedRecord, Simplified, SimplifiedRecord


def simplify_model(
    exported: Path,
    exported_record: Path,
    out: Path,
    record: Path,
    *,
    preprocessing: Preprocessing,
    manifest: Path,
    dataset_record: Path,
) -> None:
    """Simplify an ONNX file with onnxsim and compare the outputs on real images, for two batch sizes.

    If onnxsim or its own check fails, or the outputs differ, the record has the state "failed".

    Raises:
        ChangedError: an input is not what its record describes.
    """
    watch = Stopwatch()
    made_from, dataset = ExportedRecord.read(exported_record), DatasetRecord.read(dataset_record)
    outputs = {"onnx": out}
    if passed_on(SimplifiedRecord, record, watch, sources=[made_from, dataset], outputs=outputs):
        return
    made_from.artifact("onnx", exported).verify()
    dataset.artifact("manifest", manifest).verify()
    with failure_recorded(SimplifiedRecord, record, watch, outputs=outputs):
        original = onnx.load(exported)
        simplified, sound = onnxsim.simplify(original)
        if not sound:
            raise StagebenchError(f"{exported}: onnxsim's check of the simplified model failed")
        with replacing(out) as part:
            onnx.save(simplified, part)
        images = validation_images(manifest, checks.COMPARED, preprocessing)
        wanted = checks.run(exported, images)
        off = checks.require_equal(checks.run(out, images), wanted, f"{out} against {exported}")
        checks.require_equal(checks.run(out, images[:1]), wanted[:1], f"{out} against {exported}, batch of one")
        SimplifiedRecord.make(
            watch,
            result=Simplified(
                graph=checks.check_graph(out),
                nodes_before=len(original.graph.node),
                nodes_after=len(simplified.graph.node),
                compared=Difference(reference=exported.name, images=len(images), largest_difference=off),
            ),
            inputs={"onnx": made_from.outputs["onnx"], "manifest": dataset.outputs["manifest"]},
            outputs={"onnx": FileEntry.of(out)},
            versions=versions("onnx", "onnxsim", "onnxruntime"),
        ).write(record)
