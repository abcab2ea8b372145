"""Settings and momentary state of the NVIDIA GPU, by NVML. They explain figures and decide nothing."""

from __future__ import annotations

import os

import pynvml

from stagebench.host import gpu
from stagebench.host.gpu import ask
from stagebench.records.io import NONE
from stagebench.records.machine import GpuSettings, GpuState

# The clocks' event reasons that mean the card ran slower than it could (nvml.h, nvmlClocksEventReasons).
_SLOWED = {
    0x4: "software power cap",
    0x8: "hardware slowdown",
    0x20: "software thermal slowdown",
    0x40: "hardware thermal slowdown",
    0x80: "hardware power brake",
}


def settings() -> GpuSettings | None:
    """Return the card's settings; None without one."""
    if not gpu.gpu_present():
        return None
    with gpu.card() as card:
        power = ask(pynvml.nvmlDeviceGetEnforcedPowerLimit, card)
        return GpuSettings(
            sm_clock_max_mhz=ask(pynvml.nvmlDeviceGetMaxClockInfo, card, pynvml.NVML_CLOCK_SM),
            memory_clock_max_mhz=ask(pynvml.nvmlDeviceGetMaxClockInfo, card, pynvml.NVML_CLOCK_MEM),
            power_limit_w=None if power is None else power / 1000,
            ecc=_on((ask(pynvml.nvmlDeviceGetEccMode, card) or [None])[0]),
            persistence_mode=_on(ask(pynvml.nvmlDeviceGetPersistenceMode, card)),
            pcie_generation_max=ask(pynvml.nvmlDeviceGetMaxPcieLinkGeneration, card),
            pcie_width_max=ask(pynvml.nvmlDeviceGetMaxPcieLinkWidth, card),
        )


def state() -> GpuState | None:
    """Return the card's state now; None without one."""
    if not gpu.gpu_present():
        return None
    with gpu.card() as card:
        reasons = ask(pynvml.nvmlDeviceGetCurrentClocksEventReasons, card) or 0
        power = ask(pynvml.nvmlDeviceGetPowerUsage, card)
        running = ask(pynvml.nvmlDeviceGetComputeRunningProcesses, card) or []
        return GpuState(
            sm_clock_mhz=ask(pynvml.nvmlDeviceGetClockInfo, card, pynvml.NVML_CLOCK_SM),
            memory_clock_mhz=ask(pynvml.nvmlDeviceGetClockInfo, card, pynvml.NVML_CLOCK_MEM),
            power_w=None if power is None else power / 1000,
            temperature_c=ask(pynvml.nvmlDeviceGetTemperature, card, pynvml.NVML_TEMPERATURE_GPU),
            slowed_by=tuple(text for bit, text in _SLOWED.items() if reasons & bit),
            pcie_generation=ask(pynvml.nvmlDeviceGetCurrPcieLinkGeneration, card),
            pcie_width=ask(pynvml.nvmlDeviceGetCurrPcieLinkWidth, card),
            other_processes=tuple(sorted(process.pid for process in running if process.pid != os.getpid())),
        )


def driver_versions() -> tuple[str, str, str]:
    """Return the versions of the driver, of the CUDA that it supports, and of the CUDA runtime; "none" if absent."""
    from cuda.bindings import runtime

    status, version = runtime.cudaRuntimeGetVersion()
    own = NONE if int(status) else _cuda(version)
    if not gpu.gpu_present():
        return NONE, NONE, own
    with gpu.card():
        cuda = _cuda(pynvml.nvmlSystemGetCudaDriverVersion_v2())
        return pynvml.nvmlSystemGetDriverVersion(), cuda, own


def _cuda(number: int) -> str:
    return f"{number // 1000}.{number % 1000 // 10}"


def _on(value: int | None) -> bool | None:
    return None if value is None else bool(value)
