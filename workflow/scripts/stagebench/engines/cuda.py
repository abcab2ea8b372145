"""CUDA for engines that bring their own kernels: pinned memory, device memory, streams and events, by cuda.core.

Nothing here imports torch. Errors that a driver keeps reporting ("sticky": an illegal address, a hardware fault) come
from any later call: they end the process that runs the cell, and its row says which one it was.
"""

from __future__ import annotations

import ctypes
import math
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

import numpy as np

from stagebench.host import gpu
from stagebench.vocabulary import RefusedError, unavailable

if TYPE_CHECKING:
    from collections.abc import Sequence

    from cuda.core import Buffer, Event, Stream
    from numpy.typing import NDArray


class _Closable(Protocol):
    def close(self) -> object: ...


_Thing = TypeVar("_Thing", bound=_Closable)


def require() -> None:
    """Raise unless there is a CUDA driver and a device.

    Raises:
        RefusedError: which of them is missing.
    """
    from cuda.bindings import runtime

    status, version = runtime.cudaDriverGetVersion()
    if int(status) or version == 0:
        raise RefusedError(unavailable("there is no CUDA driver"))
    status, count = runtime.cudaGetDeviceCount()
    if int(status) == int(runtime.cudaError_t.cudaErrorInsufficientDriver):
        _, needed = runtime.cudaRuntimeGetVersion()
        raise RefusedError(
            unavailable(
                f"the driver's CUDA {version // 1000}.{version % 1000 // 10} is older than the runtime's "
                f"{needed // 1000}.{needed % 1000 // 10}; install a newer driver, or cuda-python for the older CUDA "
                "(docs/gpu.md has the command)"
            )
        )
    if int(status) or not count:
        raise RefusedError(unavailable(f"CUDA finds no device ({runtime.cudaError_t(int(status)).name})"))


class Card:
    """The first visible GPU and what was taken from it; `release` gives everything back."""

    def __init__(self) -> None:
        require()
        from cuda.core import (
            Device,
            DeviceMemoryResource,
            DeviceMemoryResourceOptions,
            EventOptions,
            LegacyPinnedMemoryResource,
        )

        self.device = Device(0)
        self.device.set_current()
        _require_same_card(self.device.uuid)
        self._held: list[_Closable] = []
        # A pool of its own, since the device's common one keeps what was freed until the process ends.
        self._device_memory = self._hold(DeviceMemoryResource(self.device, DeviceMemoryResourceOptions()))
        self._host_memory = LegacyPinnedMemoryResource()
        # A thread that waits sleeps: the decoder needs the core.
        self._event_options = EventOptions(timing_enabled=True, blocking_sync=True)
        self._allocating = self.stream()

    def stream(self) -> Stream:
        """Return a new non-default stream."""
        return self._hold(self.device.create_stream())

    def event(self) -> Event:
        """Return a new event that records times."""
        return self._hold(self.device.create_event(self._event_options))

    def pinned(self, shape: Sequence[int], dtype: type[np.generic]) -> tuple[Buffer, NDArray[Any]]:
        """Return page-locked host memory, as cuda.core's buffer and as an array of zeros over the same bytes.

        The array is valid until `release`.
        """
        size = math.prod(shape) * np.dtype(dtype).itemsize
        buffer = self._hold(self._host_memory.allocate(size))
        raw = (ctypes.c_uint8 * size).from_address(int(buffer.handle))
        array: NDArray[Any] = np.ctypeslib.as_array(raw).view(dtype).reshape(shape)
        array[...] = 0
        return buffer, array

    def allocate(self, size: int) -> Buffer:
        """Return `size` bytes of device memory, ready for use on any stream."""
        buffer = self._hold(self._device_memory.allocate(size, stream=self._allocating))
        self._allocating.sync()
        return buffer

    def settle(self) -> bool:
        """Wait until nothing runs on the card; return False after a sticky error, when nothing ever will again."""
        try:
            self.device.sync()
        except Exception:  # cuda.core does not export its CUDAError
            return False
        return True

    def release(self) -> None:
        """Wait for the card and give back what was taken, newest first; after a sticky error nothing can be."""
        self.settle()
        while self._held:
            with suppress(Exception):
                self._held.pop().close()

    def _hold(self, thing: _Thing) -> _Thing:
        self._held.append(thing)
        return thing


def _require_same_card(uuid: str) -> None:
    """Raise unless CUDA's first card is the one that NVML describes.

    Raises:
        RefusedError: which card each of them means.
    """
    card = gpu.identity()
    known = (card.uuid or "") if card else ""
    if _digits(known) != _digits(uuid):
        raise RefusedError(
            unavailable(
                f"CUDA's first card is {uuid}, NVML's is {known or 'none'}: set CUDA_DEVICE_ORDER=PCI_BUS_ID, "
                "and CUDA_VISIBLE_DEVICES to the card that is meant"
            )
        )


def _digits(uuid: str) -> str:
    """Return a UUID's 32 digits; NVML writes a kind before them ("GPU-")."""
    return uuid.lower().replace("-", "")[-32:]


def elapsed_s(begin: Event, end: Event) -> float:
    """Return the seconds between two recorded events."""
    return float(end - begin) / 1000  # cuda.core gives milliseconds
