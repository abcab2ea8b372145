"""Which machine this is: the stable facts that decide what may be compared and reused, and whether two agree."""

from __future__ import annotations

import hashlib
import os
import platform
from pathlib import Path

import psutil

from stagebench.errors import StagebenchError, UnrecordedError
from stagebench.host import cpus, gpu
from stagebench.records.cells import Device, DeviceRecord
from stagebench.records.envelope import Stopwatch
from stagebench.records.failures import failure_recorded
from stagebench.records.io import NONE
from stagebench.records.machine import Accelerator, Identity, RanOn
from stagebench.vocabulary import RefusedError, unavailable

# CPU features that decide which precisions run in hardware and how fast (names as in /proc/cpuinfo).
_FEATURES = (
    "avx2",
    "avx_vnni",
    "avx512f",
    "avx512_vnni",
    "avx512_bf16",
    "avx512_fp16",
    "amx_tile",
    "amx_int8",
    "amx_bf16",
    "asimd",
    "asimdhp",
    "bf16",
    "i8mm",
)
_CPUINFO = Path("/proc/cpuinfo")
# Share of the memory by which two machines of the same kind may differ: kernels keep some MiB more or less.
_SAME_MEMORY = 0.02


def identity() -> Identity:
    """Return the identity of this machine."""
    cpu, features = _cpu()
    return Identity(
        present=True,
        isa=platform.machine(),
        cpu=cpu,
        cpu_count=cpus.usable(),
        cpu_features=tuple(features),
        memory_bytes=psutil.virtual_memory().total,
        gpu=gpu.identity(),
    )


def absent(compute_capability: str) -> Identity:
    """Return the identity of a GPU machine that is not this one: only its compute capability is known."""
    card = Accelerator(name=None, uuid=None, compute_capability=compute_capability, memory_bytes=None)
    return Identity(present=False, isa=NONE, cpu=NONE, cpu_count=0, cpu_features=(), memory_bytes=0, gpu=card)


def fingerprint(known: Identity) -> str:
    """Return 16 hexadecimal digits that differ where two machines differ in any part of their identity."""
    return hashlib.sha256(known.model_dump_json().encode()).hexdigest()[:16]


def fingerprint_of_record(path: Path, here: Identity) -> str:
    """Return the fingerprint of the machine that a device record describes, where `here` is of the same kind.

    A reboot changes the memory that the kernel leaves by some KiB: that is the same machine, and nothing reruns.
    Without a readable record, or on another kind of machine, it is the fingerprint of `here`.
    """
    try:
        recorded = DeviceRecord.read(path).found.identity
    except StagebenchError:
        return fingerprint(here)
    return fingerprint(here if differences(recorded, here, timed=True) else recorded)


def describe(known: Identity) -> str:
    """Return an identity in one phrase."""
    parts = []
    if known.present:
        parts.append(f"{known.cpu}, {known.cpu_count} CPUs, {known.memory_bytes / 2**30:.1f} GiB")
    if known.gpu is not None:
        parts.append(f"{known.gpu.name or 'GPU'} (compute capability {known.gpu.compute_capability})")
    return " with ".join(parts) or NONE


def differences(known: Identity, here: Identity, *, timed: bool) -> list[str]:
    """Return the parts of two identities that make them different kinds of machine, sorted.

    Another card of the same model is no difference: a scheduler gives any of a node's, or another node of the kind.
    How many CPUs the process may use differs between jobs, so only timed ones compare it.
    """
    found = {key for key in ("isa", "cpu", "cpu_features") if getattr(known, key) != getattr(here, key)}
    if abs(known.memory_bytes - here.memory_bytes) > _SAME_MEMORY * here.memory_bytes:
        found.add("memory_bytes")
    if timed and known.cpu_count != here.cpu_count:
        found.add("cpu_count")
    if not same_cards(known.gpu, here.gpu):
        found.add("gpu")
    return sorted(found)


def same_cards(known: Accelerator | None, here: Accelerator | None) -> bool:
    """Return whether two cards are of the same kind, or there is none in both places."""
    if known is None or here is None:
        return known is here
    return known.same_kind(here)


def require_same(record: DeviceRecord, path: Path, *, timed: bool = False) -> None:
    """Raise unless this machine is of the kind that a device record describes.

    Raises:
        UnrecordedError: the identities differ; the text describes both.
    """
    here, known = identity(), record.found.identity
    different = differences(known, here, timed=timed)
    if different:
        raise UnrecordedError(
            f"{path} describes {describe(known)}, but this job runs on {describe(here)} "
            f"(different: {', '.join(different)}): run it on the former, or delete {path} to start over on this machine"
        )


def host() -> str:
    """Return the name of this machine: the scheduler's for it, where a scheduler runs the job."""
    # Slurm sets it in every task; a node's name there need not be the host's (slurm.conf, NodeName).
    return os.environ.get("SLURMD_NODENAME") or platform.node()


def ran_on() -> RanOn:
    """Return where this job runs: host, CPUs, its GPU, and what a scheduler gave it."""
    return RanOn(
        host=host(),
        cpus=tuple(sorted(os.sched_getaffinity(0))),
        gpu=gpu.identity(),
        gpus_given=os.environ.get("CUDA_VISIBLE_DEVICES"),
        slurm_job=os.environ.get("SLURM_JOB_ID"),
    )


def probe(name: str, compute_capability: str | None, record: Path, *, on_device: bool = False) -> None:
    """Write the record of a device: this machine, or, with a compute capability, one that is known by that alone.

    Args:
        on_device: the job was sent to the device by a scheduler, so that a compute capability has to be this machine's.

    On a machine without such a GPU the record has the state "unavailable".
    """
    watch = Stopwatch()
    with failure_recorded(DeviceRecord, record, watch, outputs={}):
        if compute_capability is None or on_device:
            known = identity()
            found = known.gpu.compute_capability if known.gpu else None
            if compute_capability not in (None, found):
                reason = (
                    f"devices.{name} has compute capability {compute_capability}, but this job runs on {host()}: "
                    f"{describe(known)}; map {name} to machines that have such a GPU in the profile, or build for "
                    "it ahead of time without a cluster's profile"
                )
                raise RefusedError(unavailable(reason))
        else:
            known = absent(compute_capability)
        DeviceRecord.make(watch, result=Device(name=name, host=host(), identity=known)).write(record)


def memory_mb() -> int:
    """Return the memory that jobs may use together, in MB (10^6 bytes): the machine's, or its control group's limit."""
    limits = [psutil.virtual_memory().total]
    for path in ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes"):
        text = _read(Path(path))
        if text.isdigit():
            limits.append(int(text))
    return min(limits) // 10**6


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8", errors="replace").strip()
    except OSError:
        return ""


def _cpu() -> tuple[str, list[str]]:
    """Return the CPU's name and those of its features that matter here."""
    fields = {}
    for line in _read(_CPUINFO).split("\n\n")[0].splitlines():
        key, _, value = line.partition(":")
        fields[key.strip()] = value.strip()
    flags = set((fields.get("flags") or fields.get("Features") or "").split())
    return fields.get("model name") or platform.processor() or NONE, [flag for flag in _FEATURES if flag in flags]
