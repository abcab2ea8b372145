"""OpenVINO on CPUs."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple

import numpy as np
from pydantic import JsonValue

from stagebench.engines import cpu
from stagebench.engines.base import BuildSpec, Engine, Options, Session, Timing
from stagebench.records.cells import Built, EngineRecord, Execution
from stagebench.records.machine import Identity
from stagebench.vocabulary import Precision, RefusedError, State, unsupported

if TYPE_CHECKING:
    from numpy.typing import NDArray


class _Plan(NamedTuple):
    """Plan of a precision: its file, and what the library is told and reports."""

    variant: str
    #: Type of floating-point layers. If none is given, OpenVINO takes bfloat16 on CPUs that have it.
    floats: str
    #: What the runtime model reports of a layer that computes in the precision.
    executed: frozenset[str]


_PLANS = {
    "fp32": _Plan("fp32", "f32", frozenset({"f32"})),
    "bf16": _Plan("bf16", "bf16", frozenset({"bf16"})),
    "int8": _Plan("int8-cpu", "f32", frozenset({"u8", "i8"})),
}
# Layers of the runtime model that multiply by weights.
_MULTIPLYING = frozenset({"Convolution", "FullyConnected"})


def _settings(precision: str) -> dict[str, JsonValue]:
    """Return how a model is compiled: all CPUs, and two streams where layers are too short to fill them."""
    cpus = cpu.cpus()
    return {
        "INFERENCE_PRECISION_HINT": _PLANS[precision].floats,
        "INFERENCE_NUM_THREADS": cpus,
        "NUM_STREAMS": min(2, cpus) if precision == "int8" else 1,
        "ENABLE_CPU_PINNING": False,
    }


class OpenVINOSession(Session):
    """One infer request per slot, each bound to the slot's memory once."""

    def __init__(self, compiled: Any, execution: Execution) -> None:
        import openvino

        shape = tuple(compiled.input(0).shape)
        self.requests = int(compiled.get_property("NUM_STREAMS"))
        self.slots = [np.zeros(shape, np.uint8) for _ in range(self.ring(self.requests, shape[0]))]
        self.execution = execution
        self._infer = [compiled.create_infer_request() for _ in self.slots]
        for request, slot in zip(self._infer, self.slots, strict=True):
            request.set_input_tensor(openvino.Tensor(slot, shared_memory=True))
        self._compiled = compiled

    def launch(self, k: int) -> None:
        """Start the slot's request."""
        self._infer[k].start_async()

    def wait(self, k: int) -> tuple[NDArray[np.float32], Timing]:
        """Return the slot's logits and the request's own duration."""
        self._infer[k].wait()
        return self._infer[k].get_output_tensor().data, Timing(0.0, self._infer[k].latency / 1000, 0.0)

    def repeat_resident(self, n: int) -> float:
        """Keep one request per stream in flight until `n` are done."""
        begin = time.perf_counter()
        for i in range(n):
            if i >= self.requests:
                self._infer[i % self.requests].wait()
            self._infer[i % self.requests].start_async()
        for k in range(self.requests):
            self._infer[k].wait()
        return time.perf_counter() - begin

    def close(self) -> None:
        """Release the requests before the model that they belong to."""
        self._infer = []
        self.slots = []
        self._compiled = None


class OpenVINOEngine(Engine):
    """Compiles the prepared file for this CPU; the engine file is OpenVINO's exported model."""

    distributions = ("openvino",)
    device_kind = "cpu"

    variants: ClassVar[Mapping[str, str]] = {name: plan.variant for name, plan in _PLANS.items()}

    def support(self, precision: Precision, device: Identity) -> State:
        """Support what the CPU multiplies in: OpenVINO would silently compute anything else in fp32."""
        return cpu.support(precision, device)

    def build(self, source: Path, out: Path, spec: BuildSpec) -> Built:
        """Compile with a static batch and export.

        Raises:
            RefusedError: the layers would not compute in the precision, or their sums overflow.
        """
        import openvino

        cpu.require_exact_sums(spec)
        core = openvino.Core()
        model = core.read_model(source)
        crop, name = spec.preprocessing.crop, spec.precision.name
        model.reshape([spec.cell.batch, crop, crop, 3])
        begin = time.perf_counter()
        compiled = core.compile_model(model, "CPU", _settings(name))
        seconds = time.perf_counter() - begin
        layers = _layers(compiled)
        _require_executed(_executed(layers), name)
        out.write_bytes(compiled.export_model().getvalue())
        return Built(build_s=seconds, settings=_settings(name), layers=dict(sorted(layers.items())))

    def load(self, engine_file: Path, record: EngineRecord, options: Options) -> Session:
        """Import the engine file and check what it will compute in."""
        import openvino

        name = record.cell.precision
        compiled = openvino.Core().import_model(engine_file.read_bytes(), "CPU", _settings(name))
        executed = _executed(_layers(compiled))
        _require_executed(executed, name)
        execution = Execution(
            executed=executed,
            threads=int(compiled.get_property("INFERENCE_NUM_THREADS")),
            streams=int(compiled.get_property("NUM_STREAMS")),
        )
        return OpenVINOSession(compiled, execution)


def _layers(compiled: Any) -> Counter[str]:
    """Count the layers of a compiled model: "Convolution u8" -> 53."""
    found: Counter[str] = Counter()
    for node in compiled.get_runtime_model().get_ordered_ops():
        info = node.get_rt_info()
        if "layerType" in info:
            found[f"{info['layerType'].astype(str)} {info['runtimePrecision'].astype(str)}"] += 1
    return found


def _executed(layers: Counter[str]) -> dict[str, int]:
    """Count the layers that multiply by the type they compute in."""
    found: Counter[str] = Counter()
    for layer, number in layers.items():
        kind, _, dtype = layer.partition(" ")
        if kind in _MULTIPLYING:
            found[dtype] += number
    return dict(found.most_common())


def _require_executed(executed: dict[str, int], precision: str) -> None:
    """Raise unless most layers that multiply compute in the precision.

    Not all need to: a quantised model may keep its first convolution in floating point.
    """
    total = sum(executed.values())
    wanted = sum(number for dtype, number in executed.items() if dtype in _PLANS[precision].executed)
    if 2 * wanted <= total:
        found = ", ".join(sorted(executed)) or "no layer that multiplies"
        raise RefusedError(unsupported(f"OpenVINO would compute {precision} in {found} on this CPU"))


ENGINE = OpenVINOEngine()
