"""An engine that computes nothing: its rate is what the input side can feed."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

import numpy as np

from stagebench.engines.base import BuildSpec, Engine, Options, Session, Timing
from stagebench.records.cells import Built, EngineRecord, Execution
from stagebench.records.machine import Identity
from stagebench.vocabulary import OK, PRECISIONS, Precision, State

_REQUESTS = 1
_CLASSES = 1000


class NoopSession(Session):
    """Slots that nobody reads; every logit is zero."""

    def __init__(self, batch: int, crop: int) -> None:
        self.requests = _REQUESTS
        self.slots = [np.zeros((batch, crop, crop, 3), np.uint8) for _ in range(self.ring(_REQUESTS, batch))]
        self.execution = Execution(executed={}, computes=False)
        self._logits = np.zeros((batch, _CLASSES), np.float32)

    def launch(self, k: int) -> None:
        """Do nothing."""

    def wait(self, k: int) -> tuple[np.ndarray[Any, np.dtype[np.float32]], Timing]:
        """Return zeros at once."""
        return self._logits, Timing(0.0, 0.0, 0.0)

    def repeat_resident(self, n: int) -> float:
        """Time the calls themselves: nothing is computed between them."""
        begin = time.perf_counter()
        for _ in range(n):
            self.launch(0)
            self.wait(0)
        return time.perf_counter() - begin

    def close(self) -> None:
        """Release the buffers."""
        self.slots = []


class NoopEngine(Engine):
    """Takes every precision, on any device, and computes in none."""

    distributions = ("numpy",)
    device_kind = "cpu"
    variants = dict.fromkeys(PRECISIONS, "fp32")  # which is not read

    def support(self, precision: Precision, device: Identity) -> State:
        """Support everything."""
        return OK

    def build(self, source: Path, out: Path, spec: BuildSpec) -> Built:
        """Write down the size of the inputs."""
        out.write_text(json.dumps({"crop": spec.preprocessing.crop}) + "\n", encoding="utf-8")
        return Built(build_s=0.0)

    def load(self, engine_file: Path, record: EngineRecord, options: Options) -> Session:
        """Return slots of the built size."""
        shape = json.loads(engine_file.read_text(encoding="utf-8"))
        return NoopSession(record.cell.batch, shape["crop"])


ENGINE = NoopEngine()
