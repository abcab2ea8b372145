"""What a built engine says of itself, in the schemas of TensorRT 10 and 11."""

from __future__ import annotations

import json
from collections import Counter
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import tensorrt

    from stagebench.engines._tensorrt_api import TensorRT
    from stagebench.engines._tensorrt_log import Messages


def inspect(trt: TensorRT, serialised: tensorrt.IHostMemory, messages: Messages) -> dict[str, Any]:
    """Return layers, tensor types and device memory of a serialised engine.

    Raises:
        RuntimeError: the engine cannot be read back.
    """
    runtime = trt.Runtime(messages)
    engine = runtime.deserialize_cuda_engine(serialised)
    if engine is None:
        raise RuntimeError(f"the engine cannot be read back: {messages.explain()}")
    return describe(trt, engine)


def describe(trt: TensorRT, engine: tensorrt.ICudaEngine) -> dict[str, Any]:
    """Return what an engine's inspector tells, with the device memory that a context needs, in bytes."""
    inspector = engine.create_engine_inspector()
    text = inspector.get_engine_information(trt.LayerInformationFormat.JSON)
    return {"device_memory_bytes": int(engine.device_memory_size_v2), **summarise(json.loads(text))}


def summarise(information: dict[str, Any]) -> dict[str, Any]:
    """Return the layers of an inspector's JSON, how many there are of each kind, and the types of their outputs.

    TensorRT 10 gives tensors as {"Name", "Format/Datatype"} and the ends as "Bindings" (names); 11 as {"Name",
    "Format", "DataType"} and "I/O Tensors" (objects). With the verbosity "layer_names_only" a layer is its name alone.
    """
    layers = information.get("Layers", [])
    kinds: Counter[str] = Counter()
    types: Counter[str] = Counter()
    for layer in layers:
        if not isinstance(layer, dict):
            continue
        kinds[str(layer.get("LayerType", "unknown"))] += 1
        for tensor in layer.get("Outputs", []):
            types[_type_of(tensor)] += 1
    ends = information.get("I/O Tensors", information.get("Bindings", []))
    return {
        "layers": layers,
        "layer_kinds": dict(sorted(kinds.items())),
        "tensor_types": dict(sorted(types.items())),
        "ends": [end["Name"] if isinstance(end, dict) else end for end in ends],
    }


def _type_of(tensor: dict[str, Any]) -> str:
    """Return a tensor's element type; the older schema has it in words such as "Row major linear FP16 format"."""
    for key in ("DataType", "Datatype"):
        if key in tensor:
            return str(tensor[key]).upper()
    text = str(tensor.get("Format/Datatype", "unknown"))
    known = ("BF16", "BFLOAT16", "FP16", "FP32", "FP8", "INT8", "INT32", "INT64", "UINT8", "BOOL", "HALF", "FLOAT")
    words = text.upper().replace("-", " ").split()
    return next((word for word in words if word in known), text)
