"""An exported graph made simpler, and proven to compute the same."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import onnx
import onnxsim

from stagebench.dataset.manifest import validation_rows
from stagebench.errors import StagebenchError
from stagebench.model import checks
from stagebench.model.batches import batches
from stagebench.preprocessing import Preprocessing
from stagebench.records.data import DatasetRecord
from stagebench.records.envelope import FileEntry, Record, Stopwatch, passed_on
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

    Raises:
        StagebenchError: onnxsim's own check fails, or the outputs differ.
    """
    watch = Stopwatch()
    made_from = ExportedRecord.read(exported_record)
    sources: list[Record[Any]] = [made_from, DatasetRecord.read(dataset_record)]
    if passed_on(SimplifiedRecord, record, watch, sources=sources, outputs={"onnx": out}):
        return
    original = onnx.load(exported)
    simplified, sound = onnxsim.simplify(original)
    if not sound:
        raise StagebenchError(f"{exported}: onnxsim's check of the simplified model failed")
    with replacing(out) as part:
        onnx.save(simplified, part)
    images = next(batches(manifest, validation_rows(manifest, None)[: checks.COMPARED], preprocessing, checks.COMPARED))
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
        inputs={"onnx": made_from.outputs["onnx"]},
        outputs={"onnx": FileEntry.of(out)},
        versions=versions("onnx", "onnxsim", "onnxruntime"),
    ).write(record)
