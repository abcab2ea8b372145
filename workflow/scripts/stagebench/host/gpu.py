"""The NVIDIA GPU that this process would use, by NVML: which it is and how much of its memory is taken.

Imports no CUDA and starts no context. NVML is opened for each question and closed after it.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pynvml

from stagebench.records.machine import Accelerator

# CUDA counts the fastest card first, NVML by PCI address, and both must mean the same card here. CUDA reads the
# variable when it starts, which is after this module is imported.
os.environ.setdefault("CUDA_DEVICE_ORDER", "PCI_BUS_ID")


def probe() -> str | None:
    """Return in one line why no NVIDIA GPU can be used here; None where one can."""
    try:
        with card() as handle:
            return None if handle is not None else "no NVIDIA GPU is visible (CUDA_VISIBLE_DEVICES hides all of them)"
    except pynvml.NVMLError as error:
        return _explain(error)


def gpu_present() -> bool:
    """Return whether an NVIDIA GPU can be used here."""
    return probe() is None


def identity() -> Accelerator | None:
    """Return the GPU that this process would use; None where there is none."""
    if not gpu_present():
        return None
    with card() as handle:
        major, minor = pynvml.nvmlDeviceGetCudaComputeCapability(handle)
        mode = ask(pynvml.nvmlDeviceGetMigMode, handle)
        divided = mode is not None and mode[0] == pynvml.NVML_DEVICE_MIG_ENABLE
        return Accelerator(
            name=pynvml.nvmlDeviceGetName(handle),
            uuid=pynvml.nvmlDeviceGetUUID(handle),
            compute_capability=f"{major}.{minor}",
            memory_bytes=pynvml.nvmlDeviceGetMemoryInfo(handle).total,
            partitioned=divided or bool(ask(pynvml.nvmlDeviceIsMigDeviceHandle, handle)),
        )


def memory_in_use_bytes() -> int | None:
    """Return how much of the card's memory is in use, whoever uses it; None without a GPU."""
    if not gpu_present():
        return None
    with card() as handle:
        return int(pynvml.nvmlDeviceGetMemoryInfo(handle).used)


@contextmanager
def memory_reader(pid: int) -> Iterator[Callable[[], tuple[int, int]] | None]:
    """Yield a function that returns the device memory that a process holds and that is in use at all, in bytes.

    The former is 0 where NVML does not list the process. None is yielded without a GPU.
    """
    if not gpu_present():
        yield None
        return
    with card() as handle:

        def read() -> tuple[int, int]:
            running = ask(pynvml.nvmlDeviceGetComputeRunningProcesses, handle) or []
            own = sum(process.usedGpuMemory or 0 for process in running if process.pid == pid)
            return own, int(pynvml.nvmlDeviceGetMemoryInfo(handle).used)

        yield read


@contextmanager
def card() -> Iterator[Any]:
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
    with contextlib.suppress(pynvml.NVMLError), card() as handle:
        if handle is not None:
            os.environ["CUDA_VISIBLE_DEVICES"] = pynvml.nvmlDeviceGetUUID(handle)


def _explain(error: pynvml.NVMLError) -> str:
    """Return what an NVML error means for a user."""
    if isinstance(error, pynvml.NVMLError_LibraryNotFound):
        return "there is no CUDA driver (the NVML library is not installed)"
    if isinstance(error, pynvml.NVMLError_DriverNotLoaded):
        return "the NVIDIA driver is not loaded"
    if isinstance(error, (pynvml.NVMLError_NotFound, pynvml.NVMLError_InvalidArgument)):
        return "no NVIDIA GPU is visible"
    return f"NVML: {error}"


def ask(function: Callable[..., Any], *arguments: Any) -> Any:
    """Return what NVML answers; None where the card does not support the question."""
    try:
        return function(*arguments)
    except pynvml.NVMLError:
        return None
