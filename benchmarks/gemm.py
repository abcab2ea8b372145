"""How fast this machine multiplies matrices: the peak that an engine's arithmetic is held against (MFU).

The peak is the best median rate over several libraries and sizes. Each runs a chain of square products, long enough
that what stands between them (rounding back to 8 bits, adding nothing) does not count.
"""

from __future__ import annotations

import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from stagebench.host import cpus

SIZES = (512, 1024, 2048)
CHAIN = 4
ROUNDS = 7
SECONDS = 0.5
Work = Callable[[], Any]


def chain_of_products(size: int, precision: str) -> Any:
    """Return an ONNX model of CHAIN products, float32 or with quantised inputs and weights (uint8 times int8)."""
    import onnx
    from onnx import TensorProto, helper, numpy_helper

    random = np.random.default_rng(0)
    nodes, constants = [], []

    def constant(name: str, value: np.ndarray[Any, Any]) -> str:
        constants.append(numpy_helper.from_array(value, name))
        return name

    if precision == "int8":
        scale, zero = constant("scale", np.float32(0.05)), constant("zero", np.uint8(128))
        weight_scale, weight_zero = constant("weight_scale", np.float32(0.001)), constant("weight_zero", np.int8(0))
    before = "a"
    for step in range(CHAIN):
        if precision == "int8":
            weights = constant(f"w{step}", random.integers(-127, 128, (size, size)).astype(np.int8))
            nodes += [
                helper.make_node("QuantizeLinear", [before, scale, zero], [f"q{step}"]),
                helper.make_node("DequantizeLinear", [f"q{step}", scale, zero], [f"x{step}"]),
                helper.make_node("DequantizeLinear", [weights, weight_scale, weight_zero], [f"v{step}"]),
                helper.make_node("MatMul", [f"x{step}", f"v{step}"], [f"y{step}"]),
            ]
        else:
            weights = constant(f"w{step}", (random.standard_normal((size, size)) / size**0.5).astype(np.float32))
            nodes.append(helper.make_node("MatMul", [before, weights], [f"y{step}"]))
        before = f"y{step}"
    shape = [size, size]
    graph = helper.make_graph(
        nodes,
        "products",
        [helper.make_tensor_value_info("a", TensorProto.FLOAT, shape)],
        [helper.make_tensor_value_info(before, TensorProto.FLOAT, shape)],
        constants,
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    onnx.checker.check_model(model)
    return model


def by_openvino(model: Path, inputs: np.ndarray[Any, Any]) -> Work:
    """Return one run of the chain by OpenVINO."""
    import openvino

    settings = {"INFERENCE_PRECISION_HINT": "f32", "NUM_STREAMS": 1, "INFERENCE_NUM_THREADS": _cpus()}
    request = openvino.Core().compile_model(str(model), "CPU", settings).create_infer_request()
    request.set_input_tensor(openvino.Tensor(inputs, shared_memory=True))
    return request.infer


def by_onnxruntime(model: Path, inputs: np.ndarray[Any, Any]) -> Work:
    """Return one run of the chain by ONNX Runtime."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = _cpus()
    session = onnxruntime.InferenceSession(str(model), options, providers=["CPUExecutionProvider"])
    return lambda: session.run(None, {"a": inputs})


def by_torch(size: int, precision: str) -> Work:
    """Return one run of as many products by torch."""
    import torch

    torch.set_num_threads(_cpus())
    if precision == "int8":
        a = torch.randint(-128, 128, (size, size), dtype=torch.int8)
        multiply = torch._int_mm
    else:
        a, multiply = torch.randn(size, size), torch.mm
    return lambda: [multiply(a, a) for _ in range(CHAIN)]


def contenders(precision: str, folder: Path) -> Iterator[tuple[str, int, Work]]:
    """Yield library, size and one run of each contender."""
    import onnx

    for size in SIZES:
        model = folder / f"{precision}-{size}.onnx"
        onnx.save(chain_of_products(size, precision), model)
        inputs = np.random.default_rng(1).standard_normal((size, size)).astype(np.float32)
        yield "openvino", size, by_openvino(model, inputs)
        yield "onnxruntime", size, by_onnxruntime(model, inputs)
        yield "torch", size, by_torch(size, precision)


def operations_per_second(work: Work, size: int) -> float:
    """Return the rate of multiplications and additions of some runs."""
    runs, begin = 0, time.perf_counter()
    while (taken := time.perf_counter() - begin) < SECONDS:
        work()
        runs += 1
    return runs * CHAIN * 2 * size**3 / taken


def peak(precision: str, between: Callable[[], Any]) -> dict[str, Any]:
    """Return the best median rate (operations/s), which library and size reached it, and what every one reached.

    `between` is called after each round, so that what is held against the peak is measured under the same conditions.
    """
    with tempfile.TemporaryDirectory() as name:
        works = list(contenders(precision, Path(name)))
        for _, _, work in works:
            work()
        rates: dict[tuple[str, int], list[float]] = {(library, size): [] for library, size, _ in works}
        for _ in range(ROUNDS):
            for library, size, work in works:
                rates[library, size].append(operations_per_second(work, size))
            between()
    medians = {key: statistics.median(values) for key, values in rates.items()}
    best = max(medians, key=lambda key: medians[key])
    return {
        "operations_per_s": medians[best],
        "library": best[0],
        "size": best[1],
        "all": {f"{library} {size}": rate for (library, size), rate in medians.items()},
    }


def _cpus() -> int:
    return cpus.usable()
