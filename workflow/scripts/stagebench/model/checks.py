"""Comparison of two models' outputs, and running an ONNX file for it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import onnx
import onnxruntime

from stagebench.errors import StagebenchError
from stagebench.records.models import Agreement, Graph

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

# Export and simplification reorder sums and fold batch norms into convolutions: single precision differs by a few
# units in the sixth digit after 50 layers. What is wrong (a lost layer, another mean) differs in the first.
TOLERANCE = 1e-3
# Enough images to distinguish a correct graph from a wrong one.
COMPARED = 8
#: Names in every prepared file.
INPUT, OUTPUT = "images", "logits"


def run(model: Path, images: NDArray[np.uint8], *, optimise: bool = True) -> NDArray[np.float32]:
    """Run an ONNX file in ONNX Runtime on the CPU.

    Args:
        images: uint8 (N, crop, crop, 3).
        optimise: with all of ONNX Runtime's rewrites, or with the basic ones alone. These leave quantised graphs as
            they are written, to be computed in floating point: the result is the file's, not that of this CPU's
            integer kernels. The extended rewrites give wild values on fp8 files.

    Returns:
        Logits, float32 (N, classes).
    """
    options = onnxruntime.SessionOptions()
    level = onnxruntime.GraphOptimizationLevel
    options.graph_optimization_level = level.ORT_ENABLE_ALL if optimise else level.ORT_ENABLE_BASIC
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
    logits: NDArray[np.float32] = session.run([OUTPUT], {INPUT: images})[0]
    return logits


def difference(found: NDArray[np.float32], wanted: NDArray[np.float32]) -> float:
    """Return the largest difference of two outputs, relative to the largest magnitude of the wanted one."""
    return float(np.abs(found - wanted).max() / np.abs(wanted).max())


def require_equal(found: NDArray[np.float32], wanted: NDArray[np.float32], what: str) -> float:
    """Return the relative difference of two outputs, where it is within TOLERANCE.

    Raises:
        StagebenchError: it is not.
    """
    off = difference(found, wanted)
    if not off <= TOLERANCE:  # NaN is not
        raise StagebenchError(f"{what}: outputs differ by {off:.2e} of the largest logit, allowed are {TOLERANCE:.0e}")
    return off


def agreement(found: NDArray[np.float32], wanted: NDArray[np.float32], reference: str) -> Agreement:
    """Return the mean cosine similarity of the logits and the share of images, in percent, of the same top-1 class.

    Args:
        found, wanted: float32 (images, classes).
        reference: what gave `wanted`.
    """
    products = (found * wanted).sum(axis=1)
    cosine = products / (np.linalg.norm(found, axis=1) * np.linalg.norm(wanted, axis=1))
    same = found.argmax(axis=1) == wanted.argmax(axis=1)
    return Agreement(
        reference=reference,
        images=len(found),
        cosine=float(cosine.mean()),
        top1_agreement=100 * float(same.mean()),
    )


def check_graph(path: Path, *, types: bool = True) -> Graph:
    """Check an ONNX file with shape inference and the contract of its ends; return its opset and its ends' shapes.

    Args:
        types: check the types that operators take, too. Opset 20 does not list bfloat16 for Conv, which TensorRT and
            OpenVINO read all the same.

    Raises:
        StagebenchError: the file is invalid, its ends are not those of the contract, or its first operation is not
            the cast that TensorRT requires of uint8.
    """
    model = onnx.load(path)
    try:
        onnx.checker.check_model(model, full_check=types)
        onnx.shape_inference.infer_shapes(model, strict_mode=types)
    except (onnx.checker.ValidationError, onnx.shape_inference.InferenceError) as error:
        raise StagebenchError(f"{path}: not a valid ONNX model: {' '.join(str(error).split())[:300]}") from error
    ends = {value.name: value.type.tensor_type for value in (*model.graph.input, *model.graph.output)}
    kinds = {name: end.elem_type for name, end in ends.items()}
    if kinds != {INPUT: onnx.TensorProto.UINT8, OUTPUT: onnx.TensorProto.FLOAT}:
        raise StagebenchError(f"{path}: the ends of the graph are {kinds}, not uint8 {INPUT} and float32 {OUTPUT}")
    first = [node.op_type for node in model.graph.node if INPUT in node.input]
    if first != ["Cast"]:
        raise StagebenchError(f"{path}: the input goes into {first}, not into a cast alone")
    return Graph(
        opset=next(entry.version for entry in model.opset_import if entry.domain in ("", "ai.onnx")),
        shapes={
            name: tuple(dimension.dim_param or dimension.dim_value for dimension in end.shape.dim)
            for name, end in ends.items()
        },
    )
