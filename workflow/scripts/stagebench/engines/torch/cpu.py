"""Torch on the CPU."""

from __future__ import annotations

import time
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch

from stagebench.engines import cpu
from stagebench.engines.base import Session, Timing
from stagebench.engines.torch.model import executed, load_classifier
from stagebench.records.cells import Execution, TorchCheckpoint

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from stagebench.model.architecture import Classifier

# One request fills all cores by itself.
_REQUESTS = 1


class TorchCpuSession(Session):
    """Tensors over the slots' memory; a thread of its own runs them, so that launching returns at once."""

    def __init__(self, classifier: Classifier, batch: int, meta: TorchCheckpoint) -> None:
        crop = meta.preprocessing.crop
        self.requests = _REQUESTS
        self.slots = [np.zeros((batch, crop, crop, 3), np.uint8) for _ in range(self.ring(_REQUESTS, batch))]
        self.execution = Execution(
            executed=executed(classifier), threads=cpu.cpus(), details={"memory_format": "channels_last"}
        )
        self._classifier = classifier
        self._images = [torch.from_numpy(slot) for slot in self.slots]
        self._running: dict[int, Future[tuple[NDArray[np.float32], float]]] = {}
        # How many threads compute is a property of the thread that starts them (OpenMP's nthreads-var).
        self._thread = ThreadPoolExecutor(
            1, thread_name_prefix="torch", initializer=torch.set_num_threads, initargs=(cpu.cpus(),)
        )

    def _run(self, k: int) -> tuple[NDArray[np.float32], float]:
        begin = time.perf_counter()
        with torch.inference_mode():
            logits: NDArray[np.float32] = self._classifier(self._images[k]).numpy()
        return logits, time.perf_counter() - begin

    def launch(self, k: int) -> None:
        """Hand the slot to the running thread."""
        self._running[k] = self._thread.submit(self._run, k)

    def wait(self, k: int) -> tuple[NDArray[np.float32], Timing]:
        """Return the slot's logits and how long its run took."""
        logits, seconds = self._running.pop(k).result()
        return logits, Timing(0.0, seconds, 0.0)

    def repeat_resident(self, n: int) -> float:
        """Run the first slot `n` times, in the running thread, where the other requests run, too."""

        def repeat() -> float:
            begin = time.perf_counter()
            with torch.inference_mode():
                for _ in range(n):
                    self._classifier(self._images[0])
            return time.perf_counter() - begin

        return self._thread.submit(repeat).result()

    def close(self) -> None:
        """End the thread, then release what it ran."""
        self._thread.shutdown(wait=True, cancel_futures=True)
        self._images = []
        self.slots = []


def open_session(engine_file: Path, batch: int) -> Session:
    """Load an engine file on all CPUs that this process may use."""
    classifier, meta = load_classifier(engine_file)
    return TorchCpuSession(classifier, batch, meta)
