"""Torch itself: the reference that validation runs, on the CPU or on an NVIDIA GPU."""

from __future__ import annotations

import time
from pathlib import Path

from stagebench.engines import cpu
from stagebench.engines.base import BuildSpec, Engine, Options, Session
from stagebench.host import gpu
from stagebench.host.gpu_memory import DeviceMemory
from stagebench.host.memory import MemoryMeter, ProcessMemory
from stagebench.records.cells import Built, EngineRecord, TorchCheckpoint
from stagebench.records.machine import Accelerator, Identity
from stagebench.vocabulary import CHECKPOINT, OK, Precision, State, unavailable, unsupported

# Tensor cores multiply half floats from here on (CUDA C++ Programming Guide); on older cards torch is no faster by it.
_HALF = (7, 0)


class TorchEngine(Engine):
    """Runs the checkpoint eagerly, batch norms folded; the engine file is the checkpoint with what it belongs to."""

    distributions = ("torch", "torchvision")
    device_kind = "cpu"
    variants = dict.fromkeys(("fp32", "tf32", "fp16", "bf16"), CHECKPOINT)

    def support(self, precision: Precision, device: Identity) -> State:
        """Support what the card multiplies in, if there is one, else what the CPU does; int8 and fp8 never."""
        if precision.name not in self.variants:
            return unsupported(f"torch's eager network has no {precision.name}; {precision.reference} is its reference")
        if not device.present:
            return unavailable("the device is not this machine, and torch runs where it is")
        if device.gpu is None:
            return cpu.support(precision, device)
        least = precision.min_capability or (_HALF if precision.name == "fp16" else None)
        if least and (device.gpu.capability or (0, 0)) < least:
            return unsupported(
                f"{precision.name} needs compute capability {least[0]}.{least[1]}, "
                f"the card has {device.gpu.compute_capability}"
            )
        return OK

    def build(self, source: Path, out: Path, spec: BuildSpec) -> Built:
        """Write the checkpoint with the name of its architecture and its preprocessing."""
        import torch

        from stagebench.model.architecture import load_module

        begin = time.perf_counter()
        module = load_module(spec.architecture, source)
        meta = TorchCheckpoint(
            architecture=spec.architecture, preprocessing=spec.preprocessing, precision=spec.precision.name
        )
        torch.save({"state_dict": module.state_dict(), "meta": meta.model_dump_json()}, out)
        return Built(
            build_s=time.perf_counter() - begin,
            details={"parameters": sum(parameter.numel() for parameter in module.parameters())},
        )

    def load(self, engine_file: Path, record: EngineRecord, options: Options) -> Session:
        """Load it on the card that it was built for, else on the CPU."""
        if record.device is None or record.device.gpu is None:
            from stagebench.engines.torch.cpu import open_session
        else:
            from stagebench.engines.torch.cuda import open_session
        return open_session(engine_file, record.cell.batch)

    def accelerator(self) -> Accelerator | None:
        """Return the card that torch takes where there is one."""
        return gpu.identity()

    def memory_meter(self) -> MemoryMeter:
        """Measure the card's memory where there is one."""
        return DeviceMemory() if gpu.gpu_present() else ProcessMemory()


ENGINE = TorchEngine()
