"""An exported graph made simpler, and proven to compute the same."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import onnx
import onnxsim

from stagebench import records
from stagebench.dataset.manifest import validation_rows
from stagebench.model import checks
from stagebench.model.images import batches
from stagebench.preprocessing import Preprocessing
from stagebench.records import StagebenchError


def simplify_model(
    exported: Path,
    exported_record: Path,
    out: Path,
    record: Path,
    *,
    preprocessing: Mapping[str, Any],
    manifest: Path,
) -> None:
    """Simplify an ONNX file with onnxsim and compare the outputs on real images, for two batch sizes.

    Raises:
        StagebenchError: onnxsim's own check fails, or the outputs differ.
    """
    watch = records.Stopwatch()
    recipe = Preprocessing.model_validate(preprocessing)
    original = onnx.load(exported)
    simplified, sound = onnxsim.simplify(original)
    if not sound:
        raise StagebenchError(f"{exported}: onnxsim's check of the simplified model failed")
    with records.replacing(out) as part:
        onnx.save(simplified, part)
    images = next(batches(manifest, validation_rows(manifest, None)[: checks.COMPARED], recipe, checks.COMPARED))
    wanted = checks.run(exported, images)
    off = checks.require_equal(checks.run(out, images), wanted, f"{out} against {exported}")
    checks.require_equal(checks.run(out, images[:1]), wanted[:1], f"{out} against {exported}, batch of one")
    records.write_json(
        record,
        records.make_record(
            "model",
            watch=watch,
            inputs={"onnx": records.output_entry(records.read_record(exported_record), "onnx")},
            outputs={"onnx": records.describe(out)},
            versions=records.versions("onnx", "onnxsim", "onnxruntime"),
            **checks.check_graph(out),
            nodes={"before": len(original.graph.node), "after": len(simplified.graph.node)},
            compared={"with": exported.name, "images": len(images), "largest_difference": off},
        ),
    )
