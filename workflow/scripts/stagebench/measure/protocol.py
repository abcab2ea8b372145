"""The seam of protocols: what is run, how often, and in which order."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from stagebench import registry
from stagebench.measure import protocols, scenarios
from stagebench.measure.passes import Passes, Scenario

if TYPE_CHECKING:
    from stagebench.engines.base import Session
    from stagebench.host.memory import MemoryMeter
    from stagebench.measure.blocks import Blocks
    from stagebench.measure.feeding import Files
    from stagebench.records.machine import MemoryUse


@dataclass(frozen=True)
class Bench:
    """An opened engine and what it is measured with."""

    session: Session
    #: The images as files.
    files: Files
    #: The same images decoded, as a .npy file; None if they are not kept.
    decoded: Path | None
    meter: MemoryMeter
    scenario: Scenario
    #: Where the session computes.
    computes_on: Literal["cpu", "gpu"]
    #: CPUs that this process may use.
    cpus: int
    repeats: int
    cached_repeats: int


@dataclass(frozen=True)
class Findings:
    """Findings of a protocol."""

    warm_up: Passes
    resident: Blocks
    whole: Passes
    #: No passes if the decoded images are not kept.
    cached: Passes
    memory: MemoryUse
    #: Threads that read and decode.
    decode_threads: int


class Protocol(ABC):
    """A way of measuring. A module of `measure/protocols/` defines one as `PROTOCOL`."""

    @abstractmethod
    def measure(self, bench: Bench) -> Findings:
        """Measure an opened engine."""


def protocol(name: str) -> Protocol:
    """Return the protocol of that name.

    Raises:
        StagebenchError: there is no such protocol.
    """
    return registry.choose(protocols, name, "PROTOCOL", Protocol, "protocol")


def scenario(name: str) -> Scenario:
    """Return the scenario of that name.

    Raises:
        StagebenchError: there is no such scenario.
    """
    return registry.choose(scenarios, name, "SCENARIO", Scenario, "scenario")
