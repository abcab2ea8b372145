"""Records of a cell: its device, its engine, and what was measured."""

from __future__ import annotations

from typing import ClassVar, Literal

from pydantic import Field, JsonValue

from stagebench.preprocessing import Preprocessing
from stagebench.records.envelope import Record, Value
from stagebench.records.machine import Accelerator, Environment, GpuState, Identity, MemoryUse, RanOn
from stagebench.vocabulary import Cell


class Device(Value):
    """A device: the machine behind a name of the config."""

    name: str
    host: str
    identity: Identity


class DeviceRecord(Record[Device]):
    """Of results/devices/{device}.json."""

    KIND: ClassVar[str] = "device"
    FORMAT: ClassVar[int] = 2


class Execution(Value):
    """Computation of a loaded engine, read back from the engine itself, never from what was asked of it."""

    #: Layers that multiply (convolutions, matrix products) by the type they compute in, in the library's own words:
    #: {"u8": 53, "f32": 1}. Empty if the engine computes nothing or does not say.
    executed: dict[str, int]
    #: False for an engine that shows the input side alone.
    computes: bool = True
    #: Threads and streams of the library; null where it has no such notion.
    threads: int | None = None
    streams: int | None = None
    #: "captured", "not capturable" or "switched off"; null for engines without CUDA graphs.
    cuda_graphs: str | None = None
    #: Scratch memory on the device that the engine asks for, in bytes; null if it does not say.
    device_memory_bytes: int | None = None
    #: Anything else the library says. No other room reads it.
    details: dict[str, JsonValue] = Field({})


class Built(Value):
    """A built engine."""

    #: What the library took to build, in seconds, without reading and writing files.
    build_s: float
    #: Layers of the built engine by kind or kind and type, in the library's own words; empty if it does not say.
    layers: dict[str, int] = Field({})
    #: How the library was set up.
    settings: dict[str, JsonValue] = Field({})
    #: Anything else the library says. No other room reads it.
    details: dict[str, JsonValue] = Field({})


class EngineRecord(Record[Built]):
    """Beside an engine file."""

    KIND: ClassVar[str] = "engine"
    FORMAT: ClassVar[int] = 2

    cell: Cell
    #: What it was built for; null where the device itself could not be described.
    device: Identity | None
    #: The accelerator that the engine runs on, by its own words; null for engines on CPUs.
    accelerator: Accelerator | None
    ran_on: RanOn
    environment: Environment
    #: Build options of the engine, defaults included.
    options: dict[str, JsonValue]


class ImagesUsed(Value):
    """Which images were measured."""

    name: str
    images: int
    subset: int | None
    images_sha256: str


class ReadFrom(Value):
    """Source of the images, and the seconds it took to copy them to the machine's own disk, if they were copied."""

    folder: str
    file_system: str
    staged: bool
    staging_s: float


class RunSettings(Value):
    """Settings of a cell's run."""

    protocol: str
    scenario: str
    repeats: int
    cached_repeats: int
    #: Threads that read and decode.
    decode_threads: int
    #: Requests in flight.
    requests: int
    #: Arrays that images are decoded into: those in flight, and those that are filled meanwhile.
    slots: int
    cpus: tuple[int, ...]
    #: Run options of the engine, defaults included.
    options: dict[str, JsonValue]


class Metrics(Value):
    """The figures of a run; docs/metrics.md defines them. Rates in images/s, accuracies in percent."""

    p_whole: float
    p_core: float
    p_device: float | None
    p_cached: float | None
    latency_us: float
    top1: float
    top5: float


class TimeSpent(Value):
    """Breakdown of the time of the whole passes, in seconds; docs/metrics.md says what overlaps."""

    #: Threads that read and decode.
    threads: int
    wall: float
    #: Thread-seconds of the feeder, and its processor time.
    read: float
    decode: float
    resize: float
    input_cpu: float
    wait_slot: float
    #: The loop's own seconds.
    wait_input: float
    wait_engine: float
    top_k: float
    #: Seconds on the device, added up over requests.
    h2d: float
    compute: float
    d2h: float


class PassSeconds(Value):
    """Seconds of each pass and each resident block."""

    whole: tuple[float, ...]
    cached: tuple[float, ...]
    #: Images of a cached pass.
    cached_images: int
    resident: tuple[float, ...]


class Startup(Value):
    """Seconds before the first figure: loading the engine, and the warm-up."""

    load_s: float
    warmup_s: float


class Measured(Value):
    """A cell that was measured."""

    settings: RunSettings
    #: Where it computes: "cpu" or "gpu".
    device_kind: Literal["cpu", "gpu"]
    execution: Execution
    metrics: Metrics
    memory: MemoryUse
    time_spent: TimeSpent
    passes: PassSeconds
    startup: Startup
    read_from: ReadFrom
    #: Images whose predicted classes differed between passes.
    unsteady_predictions: int
    gpu_before: GpuState | None
    gpu_after: GpuState | None


class _CellRecord(Record[Measured]):
    """Common part of inference and validation; raw samples are next to the record (.npz)."""

    cell: Cell
    #: Null where the data set could not be read.
    dataset: ImagesUsed | None
    ran_on: RanOn
    environment: Environment


class InferenceRecord(_CellRecord):
    """Of an engine's run."""

    KIND: ClassVar[str] = "inference"
    FORMAT: ClassVar[int] = 3


class ValidationRecord(_CellRecord):
    """Of the run of torch, the reference."""

    KIND: ClassVar[str] = "validation"
    FORMAT: ClassVar[int] = 3


#: A run's record, whichever of the two.
CellRecord = InferenceRecord | ValidationRecord


class TorchCheckpoint(Value):
    """Metadata of torch's engine file, stored with the state dictionary."""

    architecture: str
    preprocessing: Preprocessing
    precision: str
