"""Passes over all images: their results, and the seam at which the order of requests is decided."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

from stagebench.measure.accuracy import TOP
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


class Scenario(ABC):
    """In what order and when requests are sent. A module of `measure/scenarios/` defines one as `SCENARIO`."""

    @abstractmethod
    def run(self, session: Session, feeder: Feeder, repeats: int) -> Passes:
        """Send every image of the feeder's source `repeats` times through the session; `pulse.beat` at each answer."""
