"""CUDA for engines that bring their own kernels: pinned memory, device memory, streams and events, by cuda.core.

Nothing here imports torch. Errors that a driver keeps reporting ("sticky": an illegal address, a hardware fault) are
CUDAError from any later call: they end the process that runs the cell, and its row says which one it was.
"""

from __future__ import annotations

import ctypes
import math
from contextlib import suppress
from typing import TYPE_CHECKING, Any

import numpy as np

from stagebench.engines.base import EngineUnavailableError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray


def require() -> None:
    """Go on only where a CUDA driver and a device are there.

    Raises:
        EngineUnavailableError: which of them is missing.
    """
    from cuda.bindings import runtime

    status, version = runtime.cudaDriverGetVersion()
    if int(status) or version == 0:
        raise EngineUnavailableError("there is no CUDA driver")
    status, count = runtime.cudaGetDeviceCount()
    if int(status) == int(runtime.cudaError_t.cudaErrorInsufficientDriver):
        _, needed = runtime.cudaRuntimeGetVersion()
        raise EngineUnavailableError(
            f"the driver's CUDA {version // 1000}.{version % 1000 // 10} is older than the runtime's "
            f"{needed // 1000}.{needed % 1000 // 10}; install a newer driver or the cu12 extra (docs/gpu.md)"
        )
    if int(status) or not count:
        raise EngineUnavailableError(f"CUDA finds no device ({runtime.cudaError_t(int(status)).name})")


class Card:
    """The first visible GPU and what was taken from it; a context manager that gives everything back."""

    def __init__(self) -> None:
        require()
        from cuda.core import Device, EventOptions, LegacyPinnedMemoryResource

        self.device = Device(0)
        self.device.set_current()
        self._host_memory = LegacyPinnedMemoryResource()
        # A thread that waits sleeps: the decoder needs the core.
        self._event_options = EventOptions(timing_enabled=True, blocking_sync=True)
        self._held: list[Any] = []
        self._allocating = self.stream()

    def stream(self) -> Any:
        """Return a new non-default stream."""
        return self._hold(self.device.create_stream())

    def event(self) -> Any:
        """Return a new event that records times."""
        return self._hold(self.device.create_event(self._event_options))

    def pinned(self, shape: Sequence[int], dtype: type[np.generic]) -> tuple[Any, NDArray[Any]]:
        """Return page-locked host memory, as cuda.core's buffer and as an array of zeros over the same bytes."""
        size = math.prod(shape) * np.dtype(dtype).itemsize
        buffer = self._hold(self._host_memory.allocate(size))
        raw = (ctypes.c_uint8 * size).from_address(int(buffer.handle))
        array: NDArray[Any] = np.ctypeslib.as_array(raw).view(dtype).reshape(shape)
        array[...] = 0
        return buffer, array

    def allocate(self, size: int) -> Any:
        """Return `size` bytes of device memory, ready for use on any stream."""
        buffer = self._hold(self.device.allocate(size, stream=self._allocating))
        self._allocating.sync()
        return buffer

    def _hold(self, thing: Any) -> Any:
        self._held.append(thing)
        return thing

    def release(self) -> None:
        """Wait for the device and give back what was taken, newest first; after a sticky error nothing can be."""
        with suppress(Exception):  # cuda.core does not export its CUDAError
            self.device.sync()
        while self._held:
            with suppress(Exception):
                self._held.pop().close()


def elapsed_s(begin: Any, end: Any) -> float:
    """Return the seconds between two recorded events."""
    return float(end - begin) / 1000  # cuda.core gives milliseconds
