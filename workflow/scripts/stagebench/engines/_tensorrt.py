"""TensorRT and TensorRT-RTX as engines: one class, told apart by the module that it drives."""

from __future__ import annotations

from collections.abc import Mapping
from importlib import import_module, util
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from stagebench import gpu, records
from stagebench.engines._refusal import require_own
from stagebench.engines.base import (
    BuildSpec,
    Engine,
    EngineUnavailableError,
    Session,
    Support,
    Supported,
    Unavailable,
    Unsupported,
)

if TYPE_CHECKING:
    from stagebench.engines._tensorrt_api import TensorRT

_VARIANTS = {"tf32": "fp32", "int8": "int8-symmetric"}
# Compute capability from which tensor cores take a type (CUDA C++ Programming Guide, appendix on compute capabilities).
_LEAST = {"tf32": (8, 0), "bf16": (8, 0), "fp8": (8, 9)}


class TensorRTEngine(Engine):
    """Drives a TensorRT module, which is imported only to build or to run."""

    device_kind = "gpu"

    def __init__(self, module: str, packages: tuple[str, ...], *, ahead_of_time: bool) -> None:
        """Name the module, the distributions that may bring it, and whether it builds for devices that are absent."""
        self.module = module
        self.ahead_of_time = ahead_of_time
        installed = [name for name in packages if records.versions(name)[name] != "none"]
        self.distributions = (*(installed or packages)[:1], "cuda-core")

    def version(self) -> str:
        """Return the installed version."""
        return records.versions(self.distributions[0])[self.distributions[0]]

    def support(self, precision: str, device: Mapping[str, Any]) -> Support:
        """Say what the card's tensor cores take; what else there is to refuse, the builder refuses in its own words."""
        identity = device["identity"]
        card = identity["gpu"]
        if card is None:
            return Unavailable(gpu.probe() or "the device has no NVIDIA GPU")
        if util.find_spec(self.module) is None:
            return Unavailable(f"the package {self.distributions[0]} is not installed (docs/gpu.md has the command)")
        if card.get("mig"):
            return Unavailable("the card is partitioned (MIG), and a partition is not the card that the row would name")
        if not identity["present"] and not self.ahead_of_time:
            return Unavailable("the device is not this machine, and TensorRT builds only on the device itself")
        capability = tuple(int(part) for part in card["compute_capability"].split("."))
        least = _LEAST.get(precision)
        # Only TF32 would be computed in another type without a word: files of other types are refused by the builder.
        if least and capability < least and (precision == "tf32" or not self.ahead_of_time):
            return Unsupported(
                f"{precision} needs compute capability {least[0]}.{least[1]}, the card has {card['compute_capability']}"
            )
        return Supported(f"{precision} on compute capability {card['compute_capability']}")

    def variant(self, precision: str) -> str:
        """Return the prepared file of a precision: fp32 and tf32 share one, int8 is symmetric."""
        return _VARIANTS.get(precision, precision)

    def build(self, source: Path, out: Path, spec: BuildSpec) -> dict[str, Any]:
        """Build for this machine's card, or ahead of time for a compute capability.

        Raises:
            EngineUnsupportedError: parser or builder refuse the file.
            EngineUnavailableError: there is no usable CUDA.
        """
        from stagebench.engines import _tensorrt_build

        trt = self._import()
        identity = spec.device["identity"]
        present = identity["present"]
        cache = None
        if spec.cache_folder is not None and not self.ahead_of_time and spec.options.get("timing_cache", True):
            cache = spec.cache_folder / f"{self.module}-{self.version()}.timing"
        plan = _tensorrt_build.Plan(
            batch=spec.batch,
            crop=spec.preprocessing.crop,
            tf32=spec.precision == "tf32",
            # TensorRT-RTX builds for what is named, and says so where it has no such target (an H100, say).
            target=identity["gpu"]["compute_capability"] if self.ahead_of_time else None,
            present=present,
            options=spec.options,
            timing_cache=cache,
        )
        label = f"{self.module} {spec.precision} batch {spec.batch}"
        return {**_tensorrt_build.build(trt, source, out, plan, label), **_cuda_versions()}

    def open(
        self, engine_file: Path, build_record: Mapping[str, Any], batch: int, options: Mapping[str, Any] | None = None
    ) -> Session:
        """Load an engine file on the first visible card."""
        require_own(self, engine_file, build_record, batch)
        from stagebench.engines._tensorrt_session import open_session

        precision = build_record["cell"]["precision"]
        return open_session(self._import(), engine_file, batch, precision, options or {})

    def _import(self) -> TensorRT:
        try:
            return cast("TensorRT", import_module(self.module))
        except (ImportError, OSError) as error:
            reason = " ".join(str(error).split())
            raise EngineUnavailableError(f"{self.module} cannot be imported ({reason}); docs/gpu.md says how") from None


def _cuda_versions() -> dict[str, str]:
    """Return the versions of CUDA that a build ran with, as the report's environment names them."""
    known = gpu.environment()
    return {"cuda_driver": known["CUDA driver"], "cuda_runtime": known["CUDA runtime"], "driver": known["Driver"]}
