"""OpenVINO on CPUs."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from stagebench import records
from stagebench.engines import _cpu
from stagebench.engines._refusal import require_own
from stagebench.engines.base import BuildSpec, Engine, EngineUnsupportedError, Session, Support, Timing

if TYPE_CHECKING:
    from numpy.typing import NDArray

_VARIANTS = {"fp32": "fp32", "bf16": "bf16", "int8": "int8-asymmetric"}
# In which type floating-point layers compute. Where nothing is said, OpenVINO takes bfloat16 on CPUs that have it.
_FLOATS = {"fp32": "f32", "bf16": "bf16", "int8": "f32"}
# What the runtime model reports of a convolution that computes in a precision.
_EXECUTED = {"fp32": {"f32"}, "bf16": {"bf16"}, "int8": {"u8", "i8"}}


def _settings(precision: str) -> dict[str, Any]:
    """Return how a model is compiled: all CPUs, and two streams where layers are too short to fill them."""
    cpus = _cpu.cpus()
    return {
        "INFERENCE_PRECISION_HINT": _FLOATS[precision],
        "INFERENCE_NUM_THREADS": cpus,
        "NUM_STREAMS": min(2, cpus) if precision == "int8" else 1,
        "ENABLE_CPU_PINNING": False,
    }


class OpenVINOSession(Session):
    """One infer request per slot, each bound to the slot's memory once."""

    def __init__(self, compiled: Any, precision: str) -> None:
        import openvino

        shape = tuple(compiled.input(0).shape)
        self.requests = int(compiled.get_property("NUM_STREAMS"))
        self.slots = [np.zeros(shape, np.uint8) for _ in range(self.requests + 2)]
        self._infer = [compiled.create_infer_request() for _ in self.slots]
        for request, slot in zip(self._infer, self.slots, strict=True):
            request.set_input_tensor(openvino.Tensor(slot, shared_memory=True))
        self.execution = {
            "precision": precision,
            "convolutions": dict(_convolutions(compiled)),
            "threads": int(compiled.get_property("INFERENCE_NUM_THREADS")),
            "streams": self.requests,
        }
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

    def version(self) -> str:
        """Return the installed version."""
        return records.versions("openvino")["openvino"]

    def support(self, precision: str, device: Mapping[str, Any]) -> Support:
        """Support what the CPU multiplies in: OpenVINO would compute anything else in fp32 without a word."""
        return _cpu.support(precision, device)

    def variant(self, precision: str) -> str:
        """Return the prepared file of a precision."""
        return _VARIANTS.get(precision, "fp32")

    def build(self, source: Path, out: Path, spec: BuildSpec) -> dict[str, Any]:
        """Compile with a static batch and export.

        Raises:
            EngineUnsupportedError: the convolutions would not compute in the precision.
        """
        import openvino

        core = openvino.Core()
        model = core.read_model(source)
        crop = spec.preprocessing.crop
        model.reshape([spec.batch, crop, crop, 3])
        begin = time.perf_counter()
        compiled = core.compile_model(model, "CPU", _settings(spec.precision))
        seconds = time.perf_counter() - begin
        _require_executed(compiled, spec.precision)
        out.write_bytes(compiled.export_model().getvalue())
        return {"compile_s": seconds, "settings": _settings(spec.precision), "layers": _layers(compiled)}

    def open(
        self, engine_file: Path, build_record: Mapping[str, Any], batch: int, options: Mapping[str, Any] | None = None
    ) -> Session:
        """Import the engine file and check what it will compute in."""
        import openvino

        require_own(self, engine_file, build_record, batch)
        precision = build_record["cell"]["precision"]
        core = openvino.Core()
        compiled = core.import_model(engine_file.read_bytes(), "CPU", _settings(precision))
        _require_executed(compiled, precision)
        return OpenVINOSession(compiled, precision)


def _convolutions(compiled: Any) -> Counter[str]:
    """Count the convolutions of a compiled model by the precision in which they run."""
    found: Counter[str] = Counter()
    for node in compiled.get_runtime_model().get_ordered_ops():
        info = node.get_rt_info()
        if "layerType" in info and info["layerType"].astype(str) == "Convolution":
            found[info["runtimePrecision"].astype(str)] += 1
    return found


def _layers(compiled: Any) -> dict[str, int]:
    """Count the layers of a compiled model by type and precision."""
    found: Counter[str] = Counter()
    for node in compiled.get_runtime_model().get_ordered_ops():
        info = node.get_rt_info()
        if "layerType" in info:
            found[f"{info['layerType'].astype(str)} {info['runtimePrecision'].astype(str)}"] += 1
    return dict(sorted(found.items()))


def _require_executed(compiled: Any, precision: str) -> None:
    """Refuse a compiled model whose convolutions compute in another precision than the one asked for."""
    found = _convolutions(compiled)
    wanted = sum(number for kind, number in found.items() if kind in _EXECUTED[precision])
    # A quantised model may keep its first convolution in floating point; most of the work decides.
    if 2 * wanted <= found.total():
        raise EngineUnsupportedError(
            f"OpenVINO would compute {precision} in {', '.join(sorted(found)) or 'no convolution at all'} on this CPU"
        )


ENGINE = OpenVINOEngine()
