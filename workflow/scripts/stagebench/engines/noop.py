"""An engine that computes nothing: its rate is what the input side can feed."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from stagebench.engines._refusal import require_own
from stagebench.engines.base import BuildSpec, Engine, Session, Support, Supported, Timing

_REQUESTS = 1


class NoopSession(Session):
    """Slots that are read by nobody; every logit is zero."""

    def __init__(self, batch: int, crop: int, precision: str) -> None:
        self.requests = _REQUESTS
        self.slots = [np.zeros((batch, crop, crop, 3), np.uint8) for _ in range(_REQUESTS + 2)]
        self.execution = {"precision": precision, "computes": "nothing"}
        self._logits = np.zeros((batch, 1000), np.float32)

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

    def version(self) -> str:
        """Return numpy's version: there is no other library."""
        return str(np.__version__)

    def support(self, precision: str, device: Mapping[str, Any]) -> Support:
        """Support everything."""
        return Supported("nothing is computed")

    def variant(self, precision: str) -> str:
        """Take the fp32 file, which is not read."""
        return "fp32"

    def build(self, source: Path, out: Path, spec: BuildSpec) -> dict[str, Any]:
        """Write down the shape of the inputs."""
        shape = {"crop": spec.preprocessing.crop, "precision": spec.precision}
        out.write_text(json.dumps(shape) + "\n", encoding="utf-8")
        return shape

    def open(
        self, engine_file: Path, build_record: Mapping[str, Any], batch: int, options: Mapping[str, Any] | None = None
    ) -> Session:
        """Return slots of the built shape."""
        require_own(self, engine_file, build_record, batch)
        shape = json.loads(engine_file.read_text(encoding="utf-8"))
        return NoopSession(batch, shape["crop"], shape["precision"])


ENGINE = NoopEngine()
