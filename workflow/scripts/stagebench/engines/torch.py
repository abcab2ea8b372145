"""Torch itself: the reference that validation runs, on the CPU or on an NVIDIA GPU."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from stagebench import records
from stagebench.engines import _cpu
from stagebench.engines._refusal import require_own
from stagebench.engines.base import BuildSpec, Engine, Session, Support, Supported, Unavailable, Unsupported

# Compute capability from which tensor cores take a precision (CUDA C Programming Guide, table of arithmetic).
_TENSOR_CORES = {"fp16": (7, 0), "bf16": (8, 0), "tf32": (8, 0)}


class TorchEngine(Engine):
    """Runs the checkpoint eagerly, batch norms folded; the engine file is the checkpoint with what it belongs to."""

    distributions = ("torch", "torchvision")
    device_kind = "cpu"

    def version(self) -> str:
        """Return the installed version."""
        return records.versions("torch")["torch"]

    def support(self, precision: str, device: Mapping[str, Any]) -> Support:
        """Support what the card multiplies in, where there is one, else what the CPU does; int8 and fp8 never."""
        identity = device["identity"]
        if precision in ("int8", "fp8"):
            return Unsupported(f"torch's eager ResNet has no {precision}; fp32 is its reference")
        if not identity["present"]:
            return Unavailable("the device is not this machine, and torch runs where it is")
        card = identity["gpu"]
        if card is None:
            return _cpu.support(precision, device)
        capability = tuple(int(part) for part in card["compute_capability"].split("."))
        least = _TENSOR_CORES.get(precision)
        if least and capability < least:
            return Unsupported(f"{precision} needs compute capability {least[0]}.{least[1]}, the card has {capability}")
        return Supported(precision)

    def variant(self, precision: str) -> str:
        """Take the checkpoint itself."""
        return "weights"

    def build(self, source: Path, out: Path, spec: BuildSpec) -> dict[str, Any]:
        """Write the checkpoint with the name of its architecture and its preprocessing."""
        import torch

        from stagebench.model.architecture import load_module

        module = load_module(spec.architecture, source)
        meta = {
            "architecture": spec.architecture,
            "preprocessing": spec.preprocessing.model_dump(mode="json"),
            "precision": spec.precision,
        }
        torch.save({"state_dict": module.state_dict(), "meta": meta}, out)
        return {"meta": meta, "parameters": sum(parameter.numel() for parameter in module.parameters())}

    def open(
        self, engine_file: Path, build_record: Mapping[str, Any], batch: int, options: Mapping[str, Any] | None = None
    ) -> Session:
        """Load it on the card that the device record names, else on the CPU."""
        require_own(self, engine_file, build_record, batch)
        if build_record["device"]["gpu"] is None:
            from stagebench.engines._torch_cpu import open_session
        else:
            from stagebench.engines._torch_cuda import open_session
        return open_session(engine_file, batch)


ENGINE = TorchEngine()
