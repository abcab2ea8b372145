"""Passes over all images: their results, and the seam at which the order of requests is decided."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

from stagebench.measure.accuracy import TOP, top5
from stagebench.measure.breakdown import Breakdown

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from stagebench.engines.base import Session, Timing
    from stagebench.measure.feeding import Feeder


@dataclass
class Passes:
    """Results of several passes over N images."""

    #: Classes and logits of the five best, int16 and float32 (passes, N, 5).
    classes: NDArray[np.int16]
    logits: NDArray[np.float32]
    #: Seconds of each pass: from the last prediction of the one before it, the first from opening the first file.
    seconds: list[float] = field(default_factory=list)
    #: Time in each phase of every request, in the order of the requests.
    timings: list[Timing] = field(default_factory=list)
    #: Where the time of all passes went.
    breakdown: Breakdown = field(default_factory=lambda: Breakdown(threads=0))

    @classmethod
    def of(cls, passes: int, images: int) -> Passes:
        """Return room for the predictions of so many passes over so many images."""
        shape = (passes, images, TOP)
        return cls(np.empty(shape, np.int16), np.empty(shape, np.float32))

    @property
    def images(self) -> int:
        """Images of a pass."""
        return int(self.classes.shape[1])


# As many images are picked from at once: for one, calling numpy takes longer than its work.
_AT_ONCE = 16


class Predictions:
    """Picks the best classes of answers, which come in the order of the images, and writes them into the passes."""

    def __init__(self, passes: Passes) -> None:
        self._passes = passes
        self._held: list[NDArray[np.float32]] = []
        self._images = 0
        self._begin = (0, 0)

    def take(self, repeat: int, first: int, logits: NDArray[np.float32]) -> None:
        """Take the answers of a request: logits, float32 (images, classes), of images `first` and on of a pass."""
        if not self._held:
            self._begin = repeat, first
        self._images += len(logits)
        enough = self._images >= _AT_ONCE
        self._held.append(logits if enough else logits.copy())  # the session writes over what it gave
        if enough:
            self.finish()

    def finish(self) -> None:
        """Pick from what is still held: to be called at the end of each pass."""
        if not self._held:
            return
        classes, values = top5(self._held[0] if len(self._held) == 1 else np.concatenate(self._held))
        repeat, first = self._begin
        self._passes.classes[repeat, first : first + self._images] = classes
        self._passes.logits[repeat, first : first + self._images] = values
        self._held, self._images = [], 0


class Scenario(ABC):
    """In what order and when requests are sent. A module of `measure/scenarios/` defines one as `SCENARIO`."""

    @abstractmethod
    def run(self, session: Session, feeder: Feeder, repeats: int) -> Passes:
        """Send every image of the feeder's source `repeats` times through the session; `pulse.beat` at each answer."""
