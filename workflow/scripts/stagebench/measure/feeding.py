"""From images to the session's input slots: threads fill them ahead of the engine, without a copy in between."""

from __future__ import annotations

import math
from concurrent.futures import Future, ThreadPoolExecutor
from copy import copy
from time import perf_counter, thread_time
from typing import TYPE_CHECKING, Protocol, Self

from stagebench.dataset.decode.images import ImageError, decode_whole, resize_and_crop
from stagebench.dataset.manifest import image_path, remedy
from stagebench.measure.breakdown import Work
from stagebench.records.artifact import ChangedError

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path
    from types import TracebackType

    import numpy as np
    from numpy.typing import NDArray

    from stagebench.dataset.manifest import ManifestRow
    from stagebench.preprocessing import Preprocessing


class Source(Protocol):
    """Images by index."""

    def __len__(self) -> int:
        """Return the number of images."""

    def fill(self, begin: int, out: NDArray[np.uint8]) -> Work:
        """Write images `begin` and on into `out`, uint8 (images, crop, crop, 3); return what it took."""


class Files:
    """Image files: read, decoded, resized and cropped each time."""

    def __init__(self, manifest: Path, rows: Sequence[ManifestRow], preprocessing: Preprocessing) -> None:
        self._manifest = manifest
        self._paths = [image_path(manifest, row) for row in rows]
        self._preprocessing = preprocessing

    def __len__(self) -> int:
        return len(self._paths)

    def first(self, images: int) -> Files:
        """Return the first images alone; all of them where there are fewer."""
        fewer = copy(self)
        fewer._paths = self._paths[:images]
        return fewer

    def fill(self, begin: int, out: NDArray[np.uint8]) -> Work:
        """Write images `begin` and on into `out`.

        Raises:
            ChangedError: a file is missing or is no image.
        """
        reading = decoding = resizing = 0.0
        cpu = thread_time()
        for offset in range(len(out)):
            path = self._paths[begin + offset]
            try:
                started = perf_counter()
                data = path.read_bytes()
                have_read = perf_counter()
                image = decode_whole(data)
                decoded = perf_counter()
                resize_and_crop(image, self._preprocessing, out[offset])
                resized = perf_counter()
            except (OSError, ImageError) as error:
                reason = error.strerror if isinstance(error, OSError) else error
                raise ChangedError(
                    f"{path}: cannot be read as an image ({reason}); {remedy(self._manifest)}"
                ) from error
            reading += have_read - started
            decoding += decoded - have_read
            resizing += resized - decoded
        return Work(reading, decoding, resizing, thread_time() - cpu)


class Decoded:
    """Images decoded before: copied into the slot."""

    def __init__(self, images: NDArray[np.uint8]) -> None:
        """Take images as uint8 (images, crop, crop, 3)."""
        self._images = images

    def __len__(self) -> int:
        return len(self._images)

    def fill(self, begin: int, out: NDArray[np.uint8]) -> Work:
        """Copy images `begin` and on into `out`."""
        started, cpu = perf_counter(), thread_time()
        out[:] = self._images[begin : begin + len(out)]
        return Work(perf_counter() - started, 0.0, 0.0, thread_time() - cpu)


# Threads beyond an even share of the cores, since images differ and batches come in bursts.
_SPARE = 1.5
_LEAST = 2


def threads_to_feed(device_kind: str, cpus: int, input_cpu_s: float, core: float) -> int:
    """Return how many threads read and decode: as many as the cores that compute leaves can keep busy.

    An engine on a GPU leaves all of them. One on the CPU takes cpus / core seconds of a CPU for an image, and its input
    `input_cpu_s`: the input's share of both, and half as much again, is what more threads would only take from compute.

    Args:
        device_kind: "cpu" or "gpu", where the engine runs.
        cpus: CPUs that this process may use.
        input_cpu_s: processor time of reading, decoding and resizing one image, in seconds.
        core: images/s that the engine computes with its inputs resident.
    """
    if device_kind != "cpu":
        return cpus
    share = input_cpu_s / (input_cpu_s + cpus / core)
    return min(cpus, max(_LEAST, math.ceil(_SPARE * share * cpus)))


class Feeder:
    """Fills slots by `threads` threads; a context manager that owns them.

    A slot is cut into as many runs of images as there are threads, so that one large batch uses all of them as well as
    several small ones do.
    """

    def __init__(self, source: Source, threads: int) -> None:
        self.source = source
        self.threads = threads
        self._pool = ThreadPoolExecutor(threads, thread_name_prefix="feeder")

    def start(self, begin: int, slot: NDArray[np.uint8]) -> list[Future[Work]]:
        """Start filling `slot` with images `begin` and on; images that do not exist leave their places as they are."""
        images = min(len(slot), len(self.source) - begin)
        step = -(-images // self.threads)
        return [
            self._pool.submit(self.source.fill, begin + first, slot[first : min(first + step, images)])
            for first in range(0, images, step)
        ]

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._pool.shutdown(wait=True, cancel_futures=True)
