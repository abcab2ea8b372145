"""Comparison of two models' outputs, and running an ONNX file for it."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, NamedTuple

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
        optimise: with all of ONNX Runtime's rewrites, or with none. These leave quantised graphs as they are written,
            to be computed in floating point: the result is the file's, not that of this CPU's integer kernels. Even the
            basic rewrites quantise the biases of fp8 files, to scales that fp16 cannot hold.

    Returns:
        Logits, float32 (N, classes).
    """
    options = onnxruntime.SessionOptions()
    level = onnxruntime.GraphOptimizationLevel
    options.graph_optimization_level = level.ORT_ENABLE_ALL if optimise else level.ORT_DISABLE_ALL
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


class Quantised(NamedTuple):
    """What a graph says of its own quantisation; types by ONNX's names."""

    activations: tuple[str, ...]
    weights: tuple[str, ...]
    #: Type of what leaves a pair.
    elsewhere: str
    #: Operations with a quantised input, by type.
    operations: dict[str, int]


def quantised(model: onnx.ModelProto) -> Quantised:
    """Read from a graph what is quantised, and in which types.

    Weights are what is stored in 8 bits, or quantised from constants; integer biases are neither.
    """
    constants = {tensor.name: tensor for tensor in model.graph.initializer}
    made_by = {name: node for node in model.graph.node for name in node.output}
    types: dict[bool, set[str]] = {True: set(), False: set()}
    elsewhere: set[str] = set()
    operations: Counter[str] = Counter()
    for node in model.graph.node:
        if node.op_type == "DequantizeLinear" and (kind := _type_of(constants[node.input[2]])) != "int32":
            before = made_by.get(node.input[0])
            source = before.input[0] if before is not None and before.op_type == "QuantizeLinear" else node.input[0]
            types[source in constants].add(kind)
            elsewhere.add(_type_of(constants[node.input[1]]))
        elif any(name in made_by and made_by[name].op_type == "DequantizeLinear" for name in node.input):
            operations[node.op_type] += 1
    del operations["QuantizeLinear"]
    return Quantised(
        activations=tuple(sorted(types[False])),
        weights=tuple(sorted(types[True])),
        elsewhere=", ".join(sorted(elsewhere)),
        operations=dict(sorted(operations.items())),
    )


def _type_of(tensor: onnx.TensorProto) -> str:
    return str(onnx.TensorProto.DataType.Name(tensor.data_type)).lower()


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
