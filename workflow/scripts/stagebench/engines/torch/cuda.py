"""Torch on an NVIDIA GPU: the same ring of slots, in pinned memory, with copies during compute."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch

from stagebench.engines.base import Session, Timing
from stagebench.engines.torch.model import executed, load_classifier
from stagebench.records.cells import Execution, TorchCheckpoint
from stagebench.vocabulary import RefusedError, unavailable

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from stagebench.model.architecture import Classifier

# One request in each phase: its images are copied in, it computes, its logits are copied out.
_REQUESTS = 3


class _Slot:
    """One place of the ring: pinned host memory, its copy on the device, and events around each phase."""

    def __init__(self, batch: int, crop: int, classes: int, device: torch.device) -> None:
        self.host = torch.empty((batch, crop, crop, 3), dtype=torch.uint8, pin_memory=True)
        self.images = torch.empty(self.host.shape, dtype=torch.uint8, device=device)
        self.logits = torch.empty((batch, classes), dtype=torch.float32, pin_memory=True)
        self.copied_in, self.begin, self.copying_in = (torch.cuda.Event(enable_timing=True) for _ in range(3))
        self.computed, self.copying_out, self.done = (torch.cuda.Event(enable_timing=True) for _ in range(3))


class TorchCudaSession(Session):
    """Copies in, compute and copies out have a stream each, ordered by events."""

    def __init__(self, classifier: Classifier, batch: int, meta: TorchCheckpoint, device: torch.device) -> None:
        crop = meta.preprocessing.crop
        self._classifier = classifier
        self._device = device
        with torch.inference_mode():
            probe = torch.zeros((batch, crop, crop, 3), dtype=torch.uint8, device=device)
            classes = classifier(probe).shape[1]
        self.requests = _REQUESTS
        self._ring = [_Slot(batch, crop, classes, device) for _ in range(self.ring(_REQUESTS, batch))]
        self.slots = [slot.host.numpy() for slot in self._ring]
        self._in, self._compute, self._out = (torch.cuda.Stream(device) for _ in range(3))
        # Weights, images and the probe were made on the default stream, which these streams do not wait for.
        torch.cuda.synchronize(device)
        self.execution = Execution(executed=executed(classifier), streams=3, details={"memory_format": "channels_last"})

    def launch(self, k: int) -> None:
        """Enqueue copy, compute and copy back of a slot."""
        slot = self._ring[k]
        with torch.inference_mode():
            with torch.cuda.stream(self._in):
                slot.copying_in.record()
                slot.images.copy_(slot.host, non_blocking=True)
                slot.copied_in.record()
            with torch.cuda.stream(self._compute):
                self._compute.wait_event(slot.copied_in)
                slot.begin.record()
                logits = self._classifier(slot.images)
                slot.computed.record()
            with torch.cuda.stream(self._out):
                self._out.wait_event(slot.computed)
                slot.copying_out.record()
                slot.logits.copy_(logits, non_blocking=True)
                # The caching allocator may reuse the memory on the compute stream only when this copy is done.
                logits.record_stream(self._out)
                slot.done.record()

    def wait(self, k: int) -> tuple[NDArray[np.float32], Timing]:
        """Return the slot's logits and the events' times."""
        slot = self._ring[k]
        slot.done.synchronize()
        timing = Timing(
            slot.copying_in.elapsed_time(slot.copied_in) / 1000,
            slot.begin.elapsed_time(slot.computed) / 1000,
            slot.copying_out.elapsed_time(slot.done) / 1000,
        )
        return slot.logits.numpy(), timing

    def repeat_resident(self, n: int) -> float:
        """Compute `n` times on inputs that are on the card."""
        begin, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        with torch.inference_mode(), torch.cuda.stream(self._compute):
            begin.record()
            for i in range(n):
                self._classifier(self._ring[i % self.requests].images)
            end.record()
        end.synchronize()
        return float(begin.elapsed_time(end)) / 1000

    def close(self) -> None:
        """Wait for what runs, then give the card's memory back."""
        torch.cuda.synchronize(self._device)
        self._ring = []
        self.slots = []
        self._classifier = self._classifier.cpu()
        torch.cuda.empty_cache()


def open_session(engine_file: Path, batch: int) -> Session:
    """Load an engine file on the first visible card, with TF32 on for the precision tf32 alone.

    Raises:
        RefusedError: torch finds no card, or was built without CUDA.
    """
    if not torch.cuda.is_available():
        raise RefusedError(unavailable("torch finds no NVIDIA GPU; install the CUDA build of torch (docs/gpu.md)"))
    device = torch.device("cuda", 0)
    classifier, meta = load_classifier(engine_file)
    tf32 = meta.precision == "tf32"
    torch.backends.cuda.matmul.allow_tf32 = tf32
    torch.backends.cudnn.allow_tf32 = tf32
    torch.backends.cudnn.benchmark = True
    return TorchCudaSession(classifier.to(device), batch, meta, device)
