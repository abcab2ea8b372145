"""TensorRT and TensorRT-RTX as engines: one class, parametrised by the module that it drives."""

from __future__ import annotations

from collections.abc import Mapping
from importlib import import_module, util
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar, cast

from stagebench.engines.base import BuildSpec, Engine, Options, Session
from stagebench.engines.tensorrt.options import BuildOptions, RunOptions
from stagebench.host import gpu
from stagebench.records.cells import Built, EngineRecord
from stagebench.records.io import NONE, versions
from stagebench.records.machine import Identity
from stagebench.vocabulary import OK, Precision, RefusedError, State, unavailable, unsupported

if TYPE_CHECKING:
    from stagebench.engines.tensorrt.api import TensorRT


class TensorRTEngine(Engine):
    """Drives a TensorRT module, which is imported only to build or to run."""

    device_kind = "gpu"
    # TF32 is no type of tensors: its file is fp32's, and a flag of the builder decides.
    variants: ClassVar[Mapping[str, str]] = {
        "fp32": "fp32",
        "tf32": "fp32",
        "fp16": "fp16",
        "bf16": "bf16",
        "int8": "int8-tensorrt",
        "fp8": "fp8",
    }
    build_options = BuildOptions
    run_options = RunOptions

    def __init__(self, module: str, packages: tuple[str, ...], *, ahead_of_time: bool) -> None:
        """Name the module, the distributions that may bring it, and whether it builds for devices that are absent."""
        self.module = module
        self.ahead_of_time = ahead_of_time
        installed = [name for name, version in versions(*packages).items() if version != NONE]
        self.distributions = (*(installed or packages)[:1], "cuda-core")

    def support(self, precision: Precision, device: Identity) -> State:
        """Support what the card's tensor cores take; what else there is to refuse, the builder refuses itself."""
        card = device.gpu
        if card is None:
            return unavailable(gpu.probe() or "the device has no NVIDIA GPU")
        if util.find_spec(self.module) is None:
            return unavailable(f"the package {self.distributions[0]} is not installed (docs/gpu.md has the command)")
        if card.partitioned:
            return unavailable("the card is partitioned (MIG), and a partition is not the card that the row would name")
        if not device.present and not self.ahead_of_time:
            return unavailable("the device is not this machine, and TensorRT builds only on the device itself")
        least = precision.min_capability
        # Only TF32 would silently be computed in another type: files of other types are refused by the builder.
        judged = precision.name == "tf32" or not self.ahead_of_time
        if least and judged and (card.capability or (0, 0)) < least:
            return unsupported(
                f"{precision.name} needs compute capability {least[0]}.{least[1]}, "
                f"the card has {card.compute_capability}"
            )
        return OK

    def build(self, source: Path, out: Path, spec: BuildSpec) -> Built:
        """Build for this machine's card, or ahead of time for a compute capability.

        Raises:
            RefusedError: parser or builder refuse the file, or there is no usable CUDA.
        """
        from stagebench.engines.tensorrt import build

        trt = self._import()
        options = cast("BuildOptions", spec.options)
        cache = None
        if spec.cache_folder is not None and not self.ahead_of_time and options.timing_cache:
            cache = spec.cache_folder / f"{self.module}-{self.version()}.timing"
        # TensorRT-RTX builds for what is named, and says so if it has no such target (an H100, say).
        target = spec.device.gpu.compute_capability if self.ahead_of_time and spec.device.gpu else None
        plan = build.Plan(
            batch=spec.cell.batch,
            crop=spec.preprocessing.crop,
            tf32=spec.precision.name == "tf32",
            target=target,
            present=spec.device.present,
            options=options,
            timing_cache=cache,
        )
        return build.build(trt, source, out, plan, f"{self.module} {spec.precision.name} batch {spec.cell.batch}")

    def load(self, engine_file: Path, record: EngineRecord, options: Options) -> Session:
        """Load an engine file on the first visible card."""
        from stagebench.engines.tensorrt.session import open_session

        cell = record.cell
        return open_session(self._import(), engine_file, cell.batch, cell.precision, cast("RunOptions", options))

    def _import(self) -> TensorRT:
        try:
            return cast("TensorRT", import_module(self.module))
        except (ImportError, OSError) as error:
            reason = f"{self.module} cannot be imported ({' '.join(str(error).split())}); docs/gpu.md says how"
            raise RefusedError(unavailable(reason)) from None
