"""The machine as records hold it: the identity that decides what may be reused, and the environment of a figure."""

from __future__ import annotations

from stagebench.records.envelope import Value


class Accelerator(Value):
    """A GPU or another accelerator. Of one that is not in this machine only the compute capability is known."""

    name: str | None
    #: The vendor's unique name of the card.
    uuid: str | None
    #: NVIDIA's version of the architecture, such as "8.0"; null for other vendors.
    compute_capability: str | None
    memory_bytes: int | None
    #: Whether the card is partitioned (NVIDIA MIG).
    partitioned: bool = False

    @property
    def capability(self) -> tuple[int, int] | None:
        """The compute capability as two numbers."""
        if self.compute_capability is None:
            return None
        major, minor = self.compute_capability.split(".")
        return int(major), int(minor)

    def same_kind(self, other: Accelerator) -> bool:
        """Whether another card is of the same model, whichever of its copies it is."""
        return self.model_copy(update={"uuid": None}) == other.model_copy(update={"uuid": None})


class Identity(Value):
    """Stable facts about a machine. `present` is false for one that is only built for, ahead of time."""

    present: bool
    #: Instruction set, such as x86_64.
    isa: str
    cpu: str
    #: CPUs that the process may use.
    cpu_count: int
    cpu_features: tuple[str, ...]
    memory_bytes: int
    gpu: Accelerator | None


class Environment(Value):
    """The environment of a figure, as far as it may explain it; "none" for a thing that does not exist.

    It decides nothing: a new driver alone reruns nothing, and the report shows what each row was made with.
    """

    host: str
    machine: str
    cpu: str
    cpus_usable: int
    cpus_total: int
    cpu_features: tuple[str, ...]
    #: Frequency governor and limits, as far as the kernel exposes them.
    cpu_clock: str
    memory_bytes: int
    network: str
    os: str
    kernel: str
    accelerator: str
    driver: str
    cuda_driver: str
    cuda_runtime: str
    cuda_toolkit: str
    #: Settings of an NVIDIA card, by NVML; null without one.
    gpu: GpuSettings | None
    docker: str
    container: str
    #: Distribution -> version of the framework and of what the model is exported with.
    framework: dict[str, str]
    python: str


class GpuSettings(Value):
    """Settings of an NVIDIA card that change its speed; null where the card does not support the question."""

    sm_clock_max_mhz: int | None
    memory_clock_max_mhz: int | None
    power_limit_w: float | None
    ecc: bool | None
    persistence_mode: bool | None
    pcie_generation_max: int | None
    pcie_width_max: int | None


class GpuState(Value):
    """State of an NVIDIA card at a moment; null where the card does not support the question."""

    sm_clock_mhz: int | None
    memory_clock_mhz: int | None
    power_w: float | None
    temperature_c: int | None
    #: Why the card runs slower than it could, in words.
    slowed_by: tuple[str, ...]
    pcie_generation: int | None
    pcie_width: int | None
    #: Process identifiers of other compute processes on the card.
    other_processes: tuple[int, ...]


class RanOn(Value):
    """Resources of a job: its host and CPUs, its card, and the scheduler's own names for them."""

    host: str
    cpus: tuple[int, ...]
    gpu: Accelerator | None
    #: CUDA_VISIBLE_DEVICES.
    gpus_given: str | None
    slurm_job: str | None


class MemoryUse(Value):
    """Peak memory of a run, what the device has in total, both in bytes, and what was counted.

    `source` is "rss" (resident set size of the process on the host), "process" (device memory of the process) or
    "card" (growth of the whole card's use, where processes cannot be distinguished).
    """

    used_bytes: int
    total_bytes: int
    source: str


Environment.model_rebuild()
