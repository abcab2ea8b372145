"""Building a TensorRT engine: one function for tensorrt 10 and 11 and for tensorrt_rtx, whose module is passed in.

Networks are strongly typed: a precision is the tensor types of the ONNX file, and no precision flag exists here. Only
names that both 10 and 11 have are used, and never a flag's numeric value (11 renumbered them).
"""

from __future__ import annotations

import resource
import threading
import time
from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeVar, cast

from pydantic import JsonValue

from stagebench.engines.tensorrt import cache, inspector, log
from stagebench.engines.tensorrt.options import BuildOptions
from stagebench.host.gpu_memory import DeviceMemory
from stagebench.records.cells import Built
from stagebench.vocabulary import RefusedError, unavailable, unsupported

if TYPE_CHECKING:
    from pathlib import Path

    import tensorrt
    import tensorrt_rtx

    from stagebench.engines.tensorrt.api import TensorRT, TensorRTRTX
    from stagebench.engines.tensorrt.log import Messages

INPUT = "images"
# Errors that say nothing on what the device supports: the cell failed, and may not another time.
_PASSING = (
    "out of memory",
    "outofmemory",
    "workspace",
    "cuda runtime",
    "cuda error",
    "cudaerror",
    "cuda initialization",
)
_Enum = TypeVar("_Enum")


@dataclass(frozen=True)
class Plan:
    """Plan of a build: the shape of the input, TF32, the target and the config's options."""

    batch: int
    crop: int
    tf32: bool
    #: Compute capability to build for ("8.0"), by a library that can; None for the device of this machine.
    target: str | None
    #: Whether the device is in this machine, so that the engine can be loaded and inspected.
    present: bool
    options: BuildOptions
    #: Timing cache to use and to complete; None for a library without one.
    timing_cache: Path | None = None


def build(
    trt: TensorRT, onnx: Path, out: Path, plan: Plan, label: str, cancelled: threading.Event | None = None
) -> Built:
    """Build an engine file and return what is worth recording.

    Args:
        trt: the module: tensorrt or tensorrt_rtx.
        cancelled: once it is set, the build breaks off. So it does after SIGINT and SIGTERM, which then take effect.

    Raises:
        RefusedError: there is no usable CUDA ("unavailable"); parser or builder refuse the file for the target
            ("unsupported"), with the library's own words.
        RuntimeError: the build was interrupted, or failed for another reason, with the library's own words.
    """
    messages = log.begin(trt)
    cancelled = cancelled or threading.Event()
    with DeviceMemory() as memory, log.stopped_by_signals(cancelled):
        try:
            builder = trt.Builder(messages)
        except TypeError:  # how pybind11 says that the factory gave nothing: CUDA could not be initialised
            reason = f"{trt.__name__} cannot initialise CUDA ({messages.explain()})"
            raise RefusedError(unavailable(reason)) from None
        network = builder.create_network(1 << int(trt.NetworkDefinitionCreationFlag.STRONGLY_TYPED))
        if network is None:
            raise RuntimeError(f"{trt.__name__} makes no network: {messages.explain()}")
        begin = time.perf_counter()
        parser = _parse(trt, network, onnx, messages)
        parse_s = time.perf_counter() - begin
        monitor = log.progress_monitor(trt, label, cancelled)
        config = _configure(trt, builder, network, plan, monitor)
        used = cache.load(config, plan.timing_cache)
        begin = time.perf_counter()
        serialised = builder.build_serialized_network(network, config)
        build_s = time.perf_counter() - begin
        described = _describe(network)
        del parser  # the network refers to weights that the parser holds until here
        if cancelled.is_set():
            raise RuntimeError("the build was interrupted")
        if serialised is None:
            raise _refusal(messages)
        out.write_bytes(serialised)
        stored = cache.store(config, plan.timing_cache, used)
        found = inspector.inspect(trt, serialised, messages) if plan.present else None
    batch = plan.options.dynamic_batch
    peak = memory.peak()
    return Built(
        build_s=build_s,
        layers=found.layer_kinds if found else {},
        settings={
            "target": plan.target or "this device",
            "batch": batch.model_dump() if batch else {"static": plan.batch},
            "tf32": bool(config.get_flag(trt.BuilderFlag.TF32)),
            "workspace_bytes": int(config.get_memory_pool_limit(trt.MemoryPoolType.WORKSPACE)),
            "builder_optimization_level": int(config.builder_optimization_level),
            "hardware_compatibility": plan.options.hardware_compatibility,
            "profiling_verbosity": _name(config.profiling_verbosity),
        },
        details={
            "library": trt.__name__,
            "parse_s": parse_s,
            # ru_maxrss is in kibibytes (getrusage(2)).
            "peak_memory_bytes": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024,
            "peak_device_memory": peak.model_dump() if peak.source else None,
            "timing_cache": stored,
            "network": described,
            # Null for a card that is elsewhere: what is executed is not known before it runs.
            "engine": None if found is None else cast("JsonValue", found._asdict()),
            "warnings": list(dict.fromkeys(messages.warnings)),
        },
    )


def _parse(trt: TensorRT, network: tensorrt.INetworkDefinition, onnx: Path, messages: Messages) -> tensorrt.OnnxParser:
    parser = trt.OnnxParser(network, messages)
    if not parser.parse_from_file(str(onnx)):
        own = []
        for i in range(parser.num_errors):
            error: tensorrt.ParserError = parser.get_error(i)
            own.append(" ".join(error.desc().split()))
        raise _unsupported(f"the parser refuses {onnx.name}: {'; '.join(own) or messages.explain()}")
    return parser


def _configure(
    trt: TensorRT,
    builder: tensorrt.Builder,
    network: tensorrt.INetworkDefinition,
    plan: Plan,
    monitor: tensorrt.IProgressMonitor,
) -> tensorrt.IBuilderConfig:
    options = plan.options
    config = builder.create_builder_config()
    config.progress_monitor = monitor
    if options.workspace_gib is not None:
        config.set_memory_pool_limit(trt.MemoryPoolType.WORKSPACE, int(options.workspace_gib * 2**30))
    if options.builder_optimization_level is not None:
        config.builder_optimization_level = options.builder_optimization_level
    if options.hardware_compatibility != "none":
        config.hardware_compatibility_level = _member(trt.HardwareCompatibilityLevel, options.hardware_compatibility)
    config.profiling_verbosity = _member(trt.ProfilingVerbosity, options.profiling_verbosity)
    # On by default in every version, so it is decided for every precision.
    if plan.tf32:
        config.set_flag(trt.BuilderFlag.TF32)
    else:
        config.clear_flag(trt.BuilderFlag.TF32)
    if plan.target is not None:
        _set_target(trt, config, plan.target)
    _set_batch(builder, network, config, plan)
    return config


def _member(kind: type[_Enum], name: str) -> _Enum:
    """Return the member of one of the library's enumerations for a word of the config."""
    return cast("_Enum", getattr(kind, name.upper()))


def _name(member: object) -> str:
    """Return the name of a member of one of the library's enumerations."""
    return str(member).rpartition(".")[2]


def _set_target(trt: TensorRT, config: tensorrt.IBuilderConfig, capability: str) -> None:
    """Aim at a kind of device, be it here or not; only tensorrt_rtx can."""
    name = "SM" + capability.replace(".", "")
    known = cast("TensorRTRTX", trt).ComputeCapability if hasattr(trt, "ComputeCapability") else None
    if known is None or not hasattr(known, name):
        names = ", ".join(entry for entry in getattr(known, "__members__", {}) if entry.startswith("SM"))
        raise _unsupported(
            f"{trt.__name__} has no target {name} (it has {names or 'none'}): use tensorrt, on the device itself"
        )
    aimed = cast("tensorrt_rtx.IBuilderConfig", config)
    aimed.num_compute_capabilities = 1
    if not aimed.set_compute_capability(_member(known, name), 0):
        raise _unsupported(f"{trt.__name__} refuses the target {name}")


def _set_batch(
    builder: tensorrt.Builder, network: tensorrt.INetworkDefinition, config: tensorrt.IBuilderConfig, plan: Plan
) -> None:
    """Make the batch size static, or open within the config's bounds."""
    images = network.get_input(0)
    sizes = plan.options.dynamic_batch
    if sizes is None:
        images.shape = (plan.batch, plan.crop, plan.crop, 3)
        return
    if not sizes.min <= plan.batch <= sizes.max:
        raise _unsupported(f"engines.*.dynamic_batch spans {sizes.min} to {sizes.max}, the cell has {plan.batch}")
    profile = builder.create_optimization_profile()
    least, usual, most = ((size, plan.crop, plan.crop, 3) for size in (sizes.min, sizes.opt, sizes.max))
    profile.set_shape(INPUT, least, usual, most)
    if config.add_optimization_profile(profile) < 0:
        raise _unsupported(f"engines.*.dynamic_batch: the library refuses {sizes}")


def _refusal(messages: Messages) -> Exception:
    """Return the error that a build without a result comes down to."""
    text = messages.explain()
    if any(mark in text.lower() for mark in _PASSING):
        return RuntimeError(f"the build failed: {text}")
    return _unsupported(f"the builder refuses it: {text}")


def _unsupported(reason: str) -> RefusedError:
    return RefusedError(unsupported(reason))


def _describe(network: tensorrt.INetworkDefinition) -> dict[str, JsonValue]:
    """Return what the parsed network holds: how many layers of each kind, and the types of their outputs."""
    kinds: Counter[str] = Counter()
    types: Counter[str] = Counter()
    for i in range(network.num_layers):
        layer = network.get_layer(i)
        kinds[_name(layer.type)] += 1
        for k in range(layer.num_outputs):
            types[_name(layer.get_output(k).dtype)] += 1
    return {"layers": dict(sorted(kinds.items())), "types": dict(sorted(types.items()))}
