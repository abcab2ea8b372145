"""Inspection of a built engine, in the schemas of TensorRT 10 and 11."""

from __future__ import annotations

import json
from collections import Counter
from typing import TYPE_CHECKING, NamedTuple

from pydantic import JsonValue

from stagebench.vocabulary import RefusedError, unsupported

if TYPE_CHECKING:
    import tensorrt

    from stagebench.engines.tensorrt.api import TensorRT
    from stagebench.engines.tensorrt.log import Messages

# Element types in the words of both schemas.
_TYPES = {
    "FP32": "fp32",
    "FLOAT": "fp32",
    "FP16": "fp16",
    "HALF": "fp16",
    "BF16": "bf16",
    "BFLOAT16": "bf16",
    "INT8": "int8",
    "FP8": "fp8",
    "INT32": "int32",
    "INT64": "int64",
    "UINT8": "uint8",
    "BOOL": "bool",
}
# The type of the tensors that a precision multiplies. TF32 is what tensor cores make of fp32, not a type of tensors.
_MULTIPLIES = {"tf32": "fp32"}
# Marks of layers that multiply by weights, in the names of their kinds: CaskConvolution, CaskGemmConvolution, gemm.
_MULTIPLYING = ("conv", "gemm", "matmul", "matrixmultiply", "matrix_multiply", "fullyconnected")


class Inspected(NamedTuple):
    """An engine by its inspector."""

    #: Layers that multiply by the type of the tensor that goes in; empty if the engine does not say.
    executed: dict[str, int]
    layer_kinds: dict[str, int]
    #: Types of all layers' outputs.
    tensor_types: dict[str, int]
    #: Names of inputs and outputs.
    ends: list[str]
    #: The layers as the inspector gives them: objects, or names alone with less verbosity.
    layers: list[JsonValue]
    #: Memory that a context needs.
    device_memory_bytes: int


def inspect(trt: TensorRT, serialised: tensorrt.IHostMemory, messages: Messages) -> Inspected:
    """Return what a serialised engine says of itself.

    Raises:
        RuntimeError: the engine cannot be read back.
    """
    runtime = trt.Runtime(messages)
    engine = runtime.deserialize_cuda_engine(serialised)
    if engine is None:
        raise RuntimeError(f"the engine cannot be read back: {messages.explain()}")
    return describe(trt, engine)


def describe(trt: TensorRT, engine: tensorrt.ICudaEngine) -> Inspected:
    """Return what a loaded engine's inspector says."""
    inspector = engine.create_engine_inspector()
    text = inspector.get_engine_information(trt.LayerInformationFormat.JSON)
    return summarise(json.loads(text), int(engine.device_memory_size_v2))


def summarise(information: dict[str, JsonValue], device_memory_bytes: int = 0) -> Inspected:
    """Return the summary of an inspector's JSON.

    TensorRT 10 gives tensors as {"Name", "Format/Datatype"} and the ends as "Bindings" (names); 11 as {"Name",
    "Format", "DataType"} and "I/O Tensors" (objects). With the verbosity "layer_names_only" a layer is its name alone.
    """
    layers = _list(information.get("Layers"))
    kinds: Counter[str] = Counter()
    types: Counter[str] = Counter()
    executed: Counter[str] = Counter()
    for layer in layers:
        if not isinstance(layer, dict):
            continue
        kinds[str(layer.get("LayerType", "unknown"))] += 1
        types.update(_type_of(tensor) for tensor in _list(layer.get("Outputs")))
        inputs = _list(layer.get("Inputs"))
        if inputs and _multiplies(layer):
            executed[_type_of(inputs[0])] += 1
    ends = _list(information.get("I/O Tensors", information.get("Bindings")))
    return Inspected(
        executed=dict(executed.most_common()),
        layer_kinds=dict(sorted(kinds.items())),
        tensor_types=dict(sorted(types.items())),
        ends=[str(end["Name"]) if isinstance(end, dict) else str(end) for end in ends],
        layers=layers,
        device_memory_bytes=device_memory_bytes,
    )


def require_executed(executed: dict[str, int], precision: str) -> None:
    """Raise unless most layers that multiply take tensors of the precision's type.

    Not all need to: the first layer of a quantised model may stay in floating point. An engine that does not say, or
    uses unknown words, is not judged.

    Raises:
        RefusedError: it computes in another type, with the counts.
    """
    if not executed or not set(executed) <= set(_TYPES.values()):
        return
    wanted = executed.get(_MULTIPLIES.get(precision, precision), 0)
    if 2 * wanted <= sum(executed.values()):
        found = ", ".join(f"{number} x {dtype}" for dtype, number in executed.items())
        raise RefusedError(unsupported(f"the engine was built for {precision}, but its layers compute in {found}"))


def _multiplies(layer: dict[str, JsonValue]) -> bool:
    """Return whether a layer multiplies by weights: "ParameterType" names what a fused kernel came from."""
    kind = f"{layer.get('ParameterType', '')} {layer.get('LayerType', '')}".lower()
    return any(mark in kind for mark in _MULTIPLYING)


def _list(value: JsonValue) -> list[JsonValue]:
    return value if isinstance(value, list) else []


def _type_of(tensor: JsonValue) -> str:
    """Return a tensor's element type; the older schema has it in words such as "Row major linear FP16 format"."""
    if not isinstance(tensor, dict):
        return "unknown"
    text = next((str(tensor[key]) for key in ("DataType", "Datatype", "Format/Datatype") if key in tensor), "unknown")
    words = text.upper().replace("-", " ").split()
    return next((_TYPES[word] for word in words if word in _TYPES), text)
