"""ONNX Runtime on CPUs."""

from __future__ import annotations

import mmap
import time
from collections import Counter
from collections.abc import Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from stagebench.engines import cpu
from stagebench.engines.base import BuildSpec, Engine, Options, Session, Timing
from stagebench.records.cells import Built, EngineRecord, Execution
from stagebench.records.machine import Identity
from stagebench.vocabulary import Precision, RefusedError, State, unsupported

if TYPE_CHECKING:
    from numpy.typing import NDArray

_INPUT, _OUTPUT = "images", "logits"
# One request fills all cores by itself; a second one would compete for them.
_REQUESTS = 1
_ERRORS_ONLY = 3
# Operators that multiply by weights, after optimisation; the quantised ones begin with Q.
_MULTIPLYING = ("Conv", "Gemm", "MatMul")


def _session(model: str | bytes, options: Any) -> Any:
    import onnxruntime

    options.intra_op_num_threads = cpu.cpus()
    options.inter_op_num_threads = 1
    options.log_severity_level = _ERRORS_ONLY
    return onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])


class OnnxRuntimeSession(Session):
    """An I/O binding per slot; a thread of its own runs them, so that launching returns at once."""

    def __init__(self, session: Any, batch: int, execution: Execution) -> None:
        shape = (batch, *session.get_inputs()[0].shape[1:])
        classes = session.get_outputs()[0].shape[1]
        self.requests = _REQUESTS
        self.slots = [np.zeros(shape, np.uint8) for _ in range(self.ring(_REQUESTS, batch))]
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
    variants: ClassVar[Mapping[str, str]] = {"fp32": "fp32", "int8": "int8-cpu"}

    def support(self, precision: Precision, device: Identity) -> State:
        """Support fp32 and int8: there are no bfloat16 convolutions for CPUs, and fp16 is computed in fp32."""
        if precision.name == "bf16":
            return unsupported("ONNX Runtime has no bfloat16 convolution for CPUs")
        return cpu.support(precision, device)

    def build(self, source: Path, out: Path, spec: BuildSpec) -> Built:
        """Optimise with a static batch, layouts for this CPU included.

        Raises:
            RefusedError: the layers would not compute in the precision, or their sums overflow.
        """
        import onnxruntime

        cpu.require_exact_sums(spec)
        options = onnxruntime.SessionOptions()
        options.add_free_dimension_override_by_name("batch", spec.cell.batch)
        options.optimized_model_filepath = str(out)
        begin = time.perf_counter()
        _session(str(source), options)
        seconds = time.perf_counter() - begin
        operators = _operators(out)
        _require_executed(_executed(operators), spec.precision.name)
        return Built(build_s=seconds, layers=dict(sorted(operators.items())))

    def load(self, engine_file: Path, record: EngineRecord, options: Options) -> Session:
        """Load the optimised model as it is."""
        import onnxruntime

        executed = _executed(_operators(engine_file))
        _require_executed(executed, record.cell.precision)
        settings = onnxruntime.SessionOptions()
        settings.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
        session = _session(str(engine_file), settings)
        return OnnxRuntimeSession(session, record.cell.batch, Execution(executed=executed, threads=cpu.cpus()))


def _operators(model: Path) -> Counter[str]:
    """Count the operators of an ONNX file, read by its wire format.

    The library onnx would read the weights, too, and their bytes would count in the run's peak memory. Fields are those
    of onnx.proto: ModelProto.graph is 7, GraphProto.node is 1, NodeProto.op_type is 4.
    """
    with model.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
        found: Counter[str] = Counter()
        for graph in _parts(data, 0, len(data), 7):
            for node in _parts(data, *graph, 1):
                found.update(data[begin:end].decode() for begin, end in _parts(data, *node, 4))
        return found


def _parts(data: mmap.mmap, position: int, end: int, wanted: int) -> Iterator[tuple[int, int]]:
    """Yield (begin, end) of each length-delimited field `wanted` of a protobuf message between two positions."""
    while position < end:
        tag, position = _varint(data, position)
        number, kind = tag >> 3, tag & 7
        if kind == 2:  # length-delimited
            size, position = _varint(data, position)
            if number == wanted:
                yield position, position + size
            position += size
        elif kind == 0:
            _, position = _varint(data, position)
        else:
            position += 8 if kind == 1 else 4


def _varint(data: mmap.mmap, position: int) -> tuple[int, int]:
    """Return a varint and the position after it."""
    value = shift = 0
    while True:
        byte = data[position]
        value |= (byte & 0x7F) << shift
        position += 1
        if byte < 0x80:
            return value, position
        shift += 7


def _executed(operators: Counter[str]) -> dict[str, int]:
    """Count the operators that multiply: those that begin with Q compute in 8-bit integers, the others in float."""
    return {name: number for name, number in operators.most_common() if name.endswith(_MULTIPLYING)}


def _require_executed(executed: dict[str, int], precision: str) -> None:
    """Raise unless most operators that multiply compute in the precision."""
    total = sum(executed.values())
    quantised = sum(number for name, number in executed.items() if name.startswith("Q"))
    wanted = quantised if precision == "int8" else total - quantised
    if 2 * wanted <= total:
        raise RefusedError(unsupported(f"ONNX Runtime would compute {precision} by {executed}"))


ENGINE = OnnxRuntimeEngine()
