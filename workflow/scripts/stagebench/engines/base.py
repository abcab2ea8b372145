"""The contract of an engine: what a file in this folder has to provide.

Adding an engine is one file beside this one that defines `ENGINE`, an instance of a subclass of `Engine`. The file's
name is the engine's name in the config. Heavy libraries are imported inside the methods: the registry imports every
engine's file to ask what it supports.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, NamedTuple, Self

from stagebench.preprocessing import Preprocessing
from stagebench.records import StagebenchError

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path
    from types import TracebackType

    import numpy as np
    from numpy.typing import NDArray

#: The closed vocabulary of precisions.
PRECISIONS = ("fp32", "tf32", "fp16", "bf16", "int8", "fp8")
#: The closed vocabulary of prepared ONNX files.
VARIANTS = ("fp32", "fp16", "bf16", "int8-symmetric", "int8-asymmetric", "fp8")


class Supported(NamedTuple):
    """The engine really executes the precision on the device."""

    #: What does the arithmetic, in a few words ("AVX-512 BF16", "TF32 tensor cores").
    execution: str = ""


class Unsupported(NamedTuple):
    """The device or the library has no such arithmetic, whatever is installed around it."""

    reason: str


class Unavailable(NamedTuple):
    """It cannot run here and now: the library, the driver or the device is missing."""

    reason: str


Support = Supported | Unsupported | Unavailable


class EngineUnsupportedError(StagebenchError):
    """The library refused to build the precision for the device: the row's status becomes "unsupported"."""


class EngineUnavailableError(StagebenchError):
    """No driver, no device or no library: the row's status becomes "unavailable"."""


class ForeignEngineError(StagebenchError):
    """An engine file was made on another device, by another library version or from another model."""


class Timing(NamedTuple):
    """Seconds that one request spent in each phase; 0.0 where the phase does not exist."""

    h2d: float
    compute: float
    d2h: float


@dataclass(frozen=True)
class BuildSpec:
    """What is to be built, in plain values."""

    precision: str
    batch: int
    #: Name of the model in the config, its architecture (importable "package.module.callable") and preprocessing.
    model: str
    architecture: str
    preprocessing: Preprocessing
    #: The device's record (`results/devices/{device}.json`): stable identity of the machine it is built for.
    device: Mapping[str, Any]
    #: `outputs` entry (path, sha256, bytes) of the model file that is built from.
    source: Mapping[str, Any]
    #: Engine options from the config (`engines.<name>`), validated there, without those that only a run takes.
    options: Mapping[str, Any] = field(default_factory=dict)
    #: Folder for what builds on the device may share, such as a timing cache; no rule declares what lies there.
    cache_folder: Path | None = None


class Engine(ABC):
    """A stateless object that builds engine files and opens them."""

    #: The distributions whose versions an engine file depends on: part of what makes it stale.
    distributions: tuple[str, ...]
    #: The kind of device it runs on: "cpu" or "gpu".
    device_kind: str

    @abstractmethod
    def version(self) -> str:
        """Return the library's version without importing it ("none" where it is not installed)."""

    @abstractmethod
    def support(self, precision: str, device: Mapping[str, Any]) -> Support:
        """Say whether `precision` is really executed on `device` (a device record); never raises."""

    @abstractmethod
    def variant(self, precision: str) -> str:
        """Return the model file to build from: one of VARIANTS, or "weights" for the checkpoint itself."""

    @abstractmethod
    def build(self, source: Path, out: Path, spec: BuildSpec) -> dict[str, Any]:
        """Write the engine file `out` from `source`; return the payload of the build record (plain JSON values).

        Raises:
            EngineUnsupportedError: the library refuses the model for this device.
            EngineUnavailableError: a library, driver or device is missing.
        """

    @abstractmethod
    def open(
        self, engine_file: Path, build_record: Mapping[str, Any], batch: int, options: Mapping[str, Any] | None = None
    ) -> Session:
        """Load an engine file, ready to run.

        Args:
            options: what the config says of the run (`engines.<name>`), beside what was built in.

        Raises:
            ForeignEngineError: it was built by another version, for another batch size or on another device.
            EngineUnavailableError: a library, driver or device is missing.
        """


class Session(ABC):
    """A loaded engine with a ring of input slots; a context manager that owns every buffer.

    Slot `k` is a cycle: the caller fills `slots[k]`, calls `launch(k)`, then `wait(k)`; only then may the slot be
    filled again. At most `requests` slots are in flight at a time; `slots` holds `requests + 2` arrays, so that two
    more can be filled meanwhile. Slots are launched from one thread and waited for in the order of their launches.
    """

    #: uint8 arrays (batch, crop, crop, 3), C-contiguous: what the engine reads, without a copy in between.
    slots: list[NDArray[np.uint8]]
    #: How many launches are kept in flight for the best throughput.
    requests: int
    #: What is really executed, read back from the loaded engine: {"precision": "bf16", "threads": 2, ...}.
    execution: dict[str, Any]
    #: Whether it computes on the GPU, so that the memory that counts is the card's.
    on_gpu: bool = False

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
