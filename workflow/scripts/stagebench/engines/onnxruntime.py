"""ONNX Runtime on CPUs."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from stagebench import records
from stagebench.engines import _cpu
from stagebench.engines._refusal import require_own
from stagebench.engines.base import BuildSpec, Engine, EngineUnsupportedError, Session, Support, Timing, Unsupported

if TYPE_CHECKING:
    from numpy.typing import NDArray

_VARIANTS = {"fp32": "fp32", "int8": "int8-asymmetric"}
_INPUT, _OUTPUT = "images", "logits"
# One request fills all cores by itself; a second one would compete for them.
_REQUESTS = 1
_ERRORS_ONLY = 3


def _session(model: str | bytes, options: Any) -> Any:
    import onnxruntime

    options.intra_op_num_threads = _cpu.cpus()
    options.inter_op_num_threads = 1
    options.log_severity_level = _ERRORS_ONLY
    return onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])


class OnnxRuntimeSession(Session):
    """An I/O binding per slot; a thread of its own runs them, so that launching returns at once."""

    def __init__(self, session: Any, batch: int, execution: dict[str, Any]) -> None:
        shape = (batch, *session.get_inputs()[0].shape[1:])
        classes = session.get_outputs()[0].shape[1]
        self.requests = _REQUESTS
        self.slots = [np.zeros(shape, np.uint8) for _ in range(_REQUESTS + 2)]
        self.execution = execution
        self._session = session
        self._logits = [np.zeros((batch, classes), np.float32) for _ in self.slots]
        self._bindings = [self._bind(slot, logits) for slot, logits in zip(self.slots, self._logits, strict=True)]
        self._running: dict[int, Future[float]] = {}
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="onnxruntime")

    def _bind(self, slot: NDArray[np.uint8], logits: NDArray[np.float32]) -> Any:
        binding = self._session.io_binding()
        binding.bind_input(_INPUT, "cpu", 0, np.uint8, slot.shape, slot.ctypes.data)
        binding.bind_output(_OUTPUT, "cpu", 0, np.float32, logits.shape, logits.ctypes.data)
        return binding

    def _run(self, k: int) -> float:
        begin = time.perf_counter()
        self._session.run_with_iobinding(self._bindings[k])
        return time.perf_counter() - begin

    def launch(self, k: int) -> None:
        """Hand the slot to the running thread."""
        self._running[k] = self._thread.submit(self._run, k)

    def wait(self, k: int) -> tuple[NDArray[np.float32], Timing]:
        """Return the slot's logits and how long its run took."""
        return self._logits[k], Timing(0.0, self._running.pop(k).result(), 0.0)

    def repeat_resident(self, n: int) -> float:
        """Run the first slot's binding `n` times."""
        begin = time.perf_counter()
        for _ in range(n):
            self._session.run_with_iobinding(self._bindings[0])
        return time.perf_counter() - begin

    def close(self) -> None:
        """End the thread, then release what it ran."""
        self._thread.shutdown(wait=True, cancel_futures=True)
        self._bindings = []
        self._session = None
        self.slots = []


class OnnxRuntimeEngine(Engine):
    """Optimises the prepared file for this CPU; the engine file is the optimised model."""

    distributions = ("onnxruntime",)
    device_kind = "cpu"

    def version(self) -> str:
        """Return the installed version."""
        return records.versions("onnxruntime")["onnxruntime"]

    def support(self, precision: str, device: Mapping[str, Any]) -> Support:
        """Support fp32 and int8: there are no bfloat16 convolutions for CPUs, and fp16 is computed in fp32."""
        if precision == "bf16":
            return Unsupported("ONNX Runtime has no bfloat16 convolution for CPUs")
        return _cpu.support(precision, device)

    def variant(self, precision: str) -> str:
        """Return the prepared file of a precision."""
        return _VARIANTS.get(precision, "fp32")

    def build(self, source: Path, out: Path, spec: BuildSpec) -> dict[str, Any]:
        """Optimise with a static batch, layouts for this CPU included.

        Raises:
            EngineUnsupportedError: the convolutions would not compute in the precision.
        """
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.add_free_dimension_override_by_name("batch", spec.batch)
        options.optimized_model_filepath = str(out)
        begin = time.perf_counter()
        _session(str(source), options)
        seconds = time.perf_counter() - begin
        operators = _operators(out)
        _require_executed(operators, spec.precision)
        return {"optimise_s": seconds, "operators": dict(sorted(operators.items()))}

    def open(
        self, engine_file: Path, build_record: Mapping[str, Any], batch: int, options: Mapping[str, Any] | None = None
    ) -> Session:
        """Load the optimised model as it is."""
        import onnxruntime

        require_own(self, engine_file, build_record, batch)
        settings = onnxruntime.SessionOptions()
        settings.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
        session = _session(str(engine_file), settings)
        execution = {
            "precision": build_record["cell"]["precision"],
            "convolutions": _convolutions(Counter(build_record["build"]["operators"])),
            "threads": _cpu.cpus(),
        }
        return OnnxRuntimeSession(session, batch, execution)


def _operators(model: Path) -> Counter[str]:
    """Count the operators of an ONNX file."""
    import onnx

    return Counter(node.op_type for node in onnx.load(model, load_external_data=False).graph.node)


def _convolutions(operators: Counter[str]) -> dict[str, int]:
    """Return the convolutions among the operators: those that begin with Q compute in 8-bit integers."""
    return {name: number for name, number in operators.items() if name.endswith("Conv")}


def _require_executed(operators: Counter[str], precision: str) -> None:
    """Refuse an optimised model whose convolutions compute in another precision than the one asked for."""
    found = Counter(_convolutions(operators))
    quantised = sum(number for name, number in found.items() if name.startswith("Q"))
    wanted = quantised if precision == "int8" else found.total() - quantised
    if 2 * wanted <= found.total():
        raise EngineUnsupportedError(f"ONNX Runtime would compute {precision} by {dict(found)}")


ENGINE = OnnxRuntimeEngine()
