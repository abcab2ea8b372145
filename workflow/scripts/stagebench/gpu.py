"""NVIDIA GPUs as NVML tells of them: identity, environment, state and memory. Imports no CUDA and starts no context.

NVML is asked anew each time and released after it, so nothing here outlives a call.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pynvml

NONE = "none"
# CUDA counts the fastest card first, NVML by PCI address, and both must mean the same card here. CUDA reads the
# variable when it starts, which is after this module is imported.
os.environ.setdefault("CUDA_DEVICE_ORDER", "PCI_BUS_ID")
# The clocks' event reasons that mean the card ran slower than it could (nvml.h, nvmlClocksEventReasons).
_SLOWED = {
    0x4: "software power cap",
    0x8: "hardware slowdown",
    0x20: "software thermal slowdown",
    0x40: "hardware thermal slowdown",
    0x80: "hardware power brake",
}


def probe() -> str | None:
    """Return in one line why no NVIDIA GPU can be used here; None where one can."""
    try:
        with _card() as card:
            return None if card is not None else "no NVIDIA GPU is visible (CUDA_VISIBLE_DEVICES hides all of them)"
    except pynvml.NVMLError as error:
        return _explain(error)


def gpu_present() -> bool:
    """Say whether an NVIDIA GPU can be used here."""
    return probe() is None


def identity() -> dict[str, Any] | None:
    """Return what does not change of the GPU that this process would use; None where there is none.

    Keys: name, uuid, compute_capability ("8.0"), memory_bytes, and mig where the card is partitioned.
    """
    if not gpu_present():
        return None
    with _card() as card:
        major, minor = pynvml.nvmlDeviceGetCudaComputeCapability(card)
        found: dict[str, Any] = {
            "name": pynvml.nvmlDeviceGetName(card),
            "uuid": pynvml.nvmlDeviceGetUUID(card),
            "compute_capability": f"{major}.{minor}",
            "memory_bytes": pynvml.nvmlDeviceGetMemoryInfo(card).total,
        }
        mode = _ask(pynvml.nvmlDeviceGetMigMode, card)
        whole = mode is None or mode[0] != pynvml.NVML_DEVICE_MIG_ENABLE
        if not whole or _ask(pynvml.nvmlDeviceIsMigDeviceHandle, card):
            found["mig"] = True
        return found


def environment() -> dict[str, str]:
    """Return the report's lines on the GPU: label -> text, "none" where a thing does not exist."""
    known = identity()
    if known is None:
        return {"Accelerator": NONE, "Driver": NONE, "CUDA driver": NONE, "CUDA runtime": _runtime()}
    with _card() as card:
        cuda = pynvml.nvmlSystemGetCudaDriverVersion_v2()
        return {
            "Accelerator": f"{known['name']}, {known['memory_bytes'] / 2**30:.1f} GiB, "
            f"compute capability {known['compute_capability']}, {known['uuid']}",
            "Driver": pynvml.nvmlSystemGetDriverVersion(),
            "CUDA driver": f"{cuda // 1000}.{cuda % 1000 // 10}",
            "CUDA runtime": _runtime(),
            "GPU clocks": f"SM at most {_ask(pynvml.nvmlDeviceGetMaxClockInfo, card, pynvml.NVML_CLOCK_SM)} MHz, "
            f"memory at most {_ask(pynvml.nvmlDeviceGetMaxClockInfo, card, pynvml.NVML_CLOCK_MEM)} MHz",
            "GPU power limit": _watts(_ask(pynvml.nvmlDeviceGetEnforcedPowerLimit, card)),
            "GPU ECC": _on_off((_ask(pynvml.nvmlDeviceGetEccMode, card) or [None])[0]),
            "GPU persistence mode": _on_off(_ask(pynvml.nvmlDeviceGetPersistenceMode, card)),
            "GPU MIG": "on" if known.get("mig") else "off",
            "GPU link": f"PCIe generation {_ask(pynvml.nvmlDeviceGetMaxPcieLinkGeneration, card)}, "
            f"width {_ask(pynvml.nvmlDeviceGetMaxPcieLinkWidth, card)}",
        }


def snapshot() -> dict[str, Any]:
    """Return the GPU's state now: clocks (MHz), power (W), temperature (°C), slow-downs, other processes.

    A value that the card does not tell is None; without a GPU there is none at all.
    """
    if not gpu_present():
        return {}
    with _card() as card:
        reasons = _ask(pynvml.nvmlDeviceGetCurrentClocksEventReasons, card) or 0
        power = _ask(pynvml.nvmlDeviceGetPowerUsage, card)
        running = _ask(pynvml.nvmlDeviceGetComputeRunningProcesses, card) or []
        return {
            "sm_clock_mhz": _ask(pynvml.nvmlDeviceGetClockInfo, card, pynvml.NVML_CLOCK_SM),
            "sm_clock_max_mhz": _ask(pynvml.nvmlDeviceGetMaxClockInfo, card, pynvml.NVML_CLOCK_SM),
            "memory_clock_mhz": _ask(pynvml.nvmlDeviceGetClockInfo, card, pynvml.NVML_CLOCK_MEM),
            "power_w": None if power is None else power / 1000,
            "temperature_c": _ask(pynvml.nvmlDeviceGetTemperature, card, pynvml.NVML_TEMPERATURE_GPU),
            "slowed_by": [text for bit, text in _SLOWED.items() if reasons & bit],
            "pcie_generation": _ask(pynvml.nvmlDeviceGetCurrPcieLinkGeneration, card),
            "pcie_width": _ask(pynvml.nvmlDeviceGetCurrPcieLinkWidth, card),
            "other_processes": sorted(process.pid for process in running if process.pid != os.getpid()),
        }


def memory_in_use_bytes() -> int | None:
    """Return how much of the card's memory is in use, whoever uses it; None without a GPU."""
    if not gpu_present():
        return None
    with _card() as card:
        return int(pynvml.nvmlDeviceGetMemoryInfo(card).used)


@contextmanager
def memory_reader(pid: int) -> Iterator[Callable[[], tuple[int, int]] | None]:
    """Yield a function that returns the device memory that a process holds and that is in use at all, in bytes.

    The former is 0 where NVML does not list the process. None is yielded without a GPU.
    """
    if not gpu_present():
        yield None
        return
    with _card() as card:

        def read() -> tuple[int, int]:
            running = _ask(pynvml.nvmlDeviceGetComputeRunningProcesses, card) or []
            own = sum(process.usedGpuMemory or 0 for process in running if process.pid == pid)
            return own, int(pynvml.nvmlDeviceGetMemoryInfo(card).used)

        yield read


@contextmanager
def _card() -> Iterator[Any]:
    """Yield the NVML handle of the first GPU that CUDA_VISIBLE_DEVICES leaves; None where it leaves none."""
    pynvml.nvmlInit()
    try:
        visible = os.environ.get("CUDA_VISIBLE_DEVICES")
        first = "0" if visible is None else visible.split(",")[0].strip()
        if first in ("", "-1"):
            yield None
        elif first.isdigit():
            yield _by_index(int(first))
        else:
            yield pynvml.nvmlDeviceGetHandleByUUID(_whole_uuid(first))
    finally:
        pynvml.nvmlShutdown()


def _permitted() -> list[Any]:
    """Return the handles of the GPUs that this process may open.

    A scheduler that confines a job to its cards numbers them from 0 for CUDA, while NVML still counts all of the node.
    """
    handles = []
    for number in range(pynvml.nvmlDeviceGetCount()):
        try:
            handles.append(pynvml.nvmlDeviceGetHandleByIndex(number))
        except pynvml.NVMLError_NoPermission:
            continue
    return handles


def _by_index(index: int) -> Any:
    """Return the handle of the GPU that CUDA counts as `index`."""
    handles = _permitted()
    if index >= len(handles):
        raise pynvml.NVMLError(pynvml.NVML_ERROR_NOT_FOUND)
    return handles[index]


def _whole_uuid(begin: str) -> str:
    """Return the UUID that starts like this: CUDA_VISIBLE_DEVICES may give the first digits alone."""
    known = (str(pynvml.nvmlDeviceGetUUID(handle)) for handle in _permitted())
    return next((uuid for uuid in known if uuid.startswith(begin)), begin)


def take_scheduled() -> None:
    """Hold this process to the GPU that the scheduler gave it, before any library starts CUDA.

    CUDA_VISIBLE_DEVICES wins; without it Slurm's own variables count, the step's before the job's. The card is then
    named by its UUID, which means the same card to CUDA and to NVML, however they count.
    """
    for name in ("CUDA_VISIBLE_DEVICES", "SLURM_STEP_GPUS", "SLURM_JOB_GPUS"):
        if given := os.environ.get(name):
            break
    else:
        return
    os.environ["CUDA_VISIBLE_DEVICES"] = given
    if given.startswith("MIG"):  # a slice of a card has a name of its own
        return
    with contextlib.suppress(pynvml.NVMLError), _card() as card:
        if card is not None:
            os.environ["CUDA_VISIBLE_DEVICES"] = pynvml.nvmlDeviceGetUUID(card)


def _explain(error: pynvml.NVMLError) -> str:
    """Say what an NVML error means for a user."""
    if isinstance(error, pynvml.NVMLError_LibraryNotFound):
        return "there is no CUDA driver (the NVML library is not installed)"
    if isinstance(error, pynvml.NVMLError_DriverNotLoaded):
        return "the NVIDIA driver is not loaded"
    if isinstance(error, (pynvml.NVMLError_NotFound, pynvml.NVMLError_InvalidArgument)):
        return "no NVIDIA GPU is visible"
    return f"NVML: {error}"


def _ask(function: Callable[..., Any], *arguments: Any) -> Any:
    """Return what NVML answers; None where the card does not support the question."""
    try:
        return function(*arguments)
    except pynvml.NVMLError:
        return None


def _runtime() -> str:
    from cuda.bindings import runtime

    status, version = runtime.cudaRuntimeGetVersion()
    return NONE if int(status) else f"{version // 1000}.{version % 1000 // 10}"


def _watts(milliwatts: int | None) -> str:
    return NONE if milliwatts is None else f"{milliwatts / 1000:.0f} W"


def _on_off(value: int | None) -> str:
    return NONE if value is None else ("on" if value else "off")
