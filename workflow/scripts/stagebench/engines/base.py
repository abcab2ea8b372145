"""The contract of an engine: what a module has to provide to be measured.

An engine is a module that defines `ENGINE`, an instance of a subclass of `Engine`: a file or package next to this one,
whose name is the engine's name, or any importable module that the config names (`engines.NAME.module`). Heavy
libraries are imported inside the methods: the registry imports every engine's module to ask what it supports.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, ClassVar, Literal, NamedTuple, Self

from pydantic import BaseModel, ConfigDict

from stagebench.engines.ownership import require_own
from stagebench.host import cpus, gpu
from stagebench.host.gpu_memory import DeviceMemory
from stagebench.host.memory import MemoryMeter, ProcessMemory
from stagebench.preprocessing import Preprocessing
from stagebench.records.cells import Built, EngineRecord, Execution
from stagebench.records.envelope import FileEntry
from stagebench.records.io import NONE, versions
from stagebench.records.machine import Accelerator, Identity
from stagebench.vocabulary import Cell, Precision, State, precision

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray


# Images ahead of the engine for each CPU.
_AHEAD = 2


class Options(BaseModel):
    """Options of an engine, as the config has them under `engines.NAME`. Unknown keys are errors."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class Timing(NamedTuple):
    """Seconds that one request spent in each phase; 0.0 where the phase does not exist."""

    h2d: float
    compute: float
    d2h: float


@dataclass(frozen=True)
class BuildSpec:
    """Specification of a build."""

    cell: Cell
    #: The model's architecture (importable "package.module.callable") and preprocessing.
    architecture: str
    preprocessing: Preprocessing
    #: The machine that it is built for.
    device: Identity
    #: The model file that it is built from, by its record.
    source: FileEntry
    #: Of the type `Engine.build_options`.
    options: Options
    #: Bits of the model file's int8 weights, by its record; None where there are none, or nobody knows.
    weight_bits: int | None = None
    #: Folder for what builds on the device may share, such as a timing cache; no rule declares what lies there.
    cache_folder: Path | None = None

    @property
    def precision(self) -> Precision:
        """The cell's precision."""
        return precision(self.cell.precision)


class Engine(ABC):
    """A stateless object that builds engine files and opens them."""

    #: The distributions whose versions an engine file depends on: part of what makes it stale, and of the report.
    distributions: tuple[str, ...]
    #: The kind of device it runs on: "gpu" means any accelerator that one job takes at a time.
    device_kind: Literal["cpu", "gpu"]
    #: Precision -> the model file to build from, one of ONNX_VARIANTS or CHECKPOINT. A precision that is missing here
    #: is one that the engine never supports.
    variants: ClassVar[Mapping[str, str]]
    #: What `build` and `open` take from the config.
    build_options: ClassVar[type[Options]] = Options
    run_options: ClassVar[type[Options]] = Options

    @abstractmethod
    def support(self, precision: Precision, device: Identity) -> State:
        """Return `vocabulary.OK` if `precision` is really executed on `device`, else why not; never raises.

        "unsupported" means that the device or the library has no such arithmetic, "unavailable" that a library, a
        driver or the device is missing here and now.
        """

    @abstractmethod
    def build(self, source: Path, out: Path, spec: BuildSpec) -> Built:
        """Write the engine file `out` from `source`, and return what is worth recording.

        Raises:
            RefusedError: with the state "unsupported", the library refuses the model for this device; "unavailable",
                a library, driver or device is missing.
        """

    @abstractmethod
    def load(self, engine_file: Path, record: EngineRecord, options: Options) -> Session:
        """Load an engine file that belongs here, ready to run requests of `record.cell.batch` images.

        Args:
            options: of the type `run_options`.

        Raises:
            RefusedError: as for `build`.
        """

    def open(self, engine_file: Path, record: EngineRecord, options: Options | None = None) -> Session:
        """Load an engine file after making sure that it was built here, by this version, and is as it was built.

        Raises:
            ForeignEngineError: it was not.
            RefusedError: as for `load`, or it was built for a machine that is not this one.
        """
        require_own(self.distributions, self.accelerator(), engine_file, record)
        return self.load(engine_file, record, options or self.run_options())

    def version(self) -> str:
        """Return the library's version without importing it ("none" if it is not installed)."""
        name = self.distributions[0]
        return versions(name)[name]

    def is_installed(self) -> bool:
        """Whether the library is installed."""
        return self.version() != NONE

    def variant(self, name: str) -> str | None:
        """Return the model file to build a precision from; None for one that the engine never supports.

        Raises:
            StagebenchError: there is no such precision.
        """
        return self.variants.get(precision(name).name)

    def accelerator(self) -> Accelerator | None:
        """Return the accelerator that the engine would use here; None for an engine on the CPU.

        By default that of an NVIDIA GPU. Engine files are refused on an accelerator of another kind.
        """
        return gpu.identity() if self.device_kind == "gpu" else None

    def memory_meter(self) -> MemoryMeter:
        """Return what measures the memory that counts for this engine; made before the engine file is loaded.

        By default device memory of an NVIDIA GPU, or the process's resident memory.
        """
        return DeviceMemory() if self.device_kind == "gpu" else ProcessMemory()


class Session(ABC):
    """A loaded engine with a ring of input slots; a context manager that owns every buffer.

    Slot `k` is a cycle: the caller fills `slots[k]`, calls `launch(k)`, then `wait(k)`; only then may the slot be
    filled again. At most `requests` slots are in flight at a time; `slots` holds `ring(requests, batch)` arrays, so
    that the others can be filled meanwhile. Slots are launched from one thread and waited for in the order of their
    launches.
    """

    #: uint8 arrays (batch, crop, crop, 3), C-contiguous: what the engine reads, without a copy in between.
    slots: list[NDArray[np.uint8]]
    #: How many launches are kept in flight for the best throughput.
    requests: int
    #: What is really executed, read back from the loaded engine.
    execution: Execution

    @staticmethod
    def ring(requests: int, batch: int) -> int:
        """Return how many slots keep every decoding thread busy while `requests` of them are in flight.

        Threads decode as many images as there are CPUs. As many again may be ready before their turn, since some take
        longer than others. Two slots are the least: one is filled while the other waits to be launched.
        """
        return requests + max(2, math.ceil(_AHEAD * cpus.usable() / batch))

    @abstractmethod
    def launch(self, k: int) -> None:
        """Start inference on `slots[k]` and return at once."""

    @abstractmethod
    def wait(self, k: int) -> tuple[NDArray[np.float32], Timing]:
        """Block until slot `k` is done; return its logits (batch, classes), valid until `launch(k)`, and timing."""

    @abstractmethod
    def repeat_resident(self, n: int) -> float:
        """Run `n` whole requests on inputs already on the device; return seconds from first launch to last drain.

        `n` is a multiple of `requests`. No input is copied and no output is read.
        """

    @abstractmethod
    def close(self) -> None:
        """Release everything; safe to call twice."""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
