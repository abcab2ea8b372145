"""What machine this is: its stable identity, which decides what may be compared and reused, and its environment.

The identity holds only what does not change while the machine stays the same; the environment is the block that the
report shows. Everything is read from the kernel's own files and from the libraries' metadata.
"""

from __future__ import annotations

import hashlib
import json
import os
import platform
import shutil
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import psutil

from stagebench import gpu, records
from stagebench.records import StagebenchError

NONE = "none"
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
# Share of the memory by which two machines of the same kind may differ.
_SAME_MEMORY = 0.02


def identity() -> dict[str, Any]:
    """Return the identity of this machine, as device records hold it.

    Keys: present, machine, cpu, cpu_count (CPUs that this process may use), cpu_features, memory_bytes and gpu (None,
    or name, uuid, compute_capability and memory_bytes).
    """
    cpu, features = _cpu()
    return {
        "present": True,
        "machine": platform.machine(),
        "cpu": cpu,
        "cpu_count": len(os.sched_getaffinity(0)),
        "cpu_features": features,
        "memory_bytes": psutil.virtual_memory().total,
        "gpu": gpu.identity(),
    }


def absent(compute_capability: str) -> dict[str, Any]:
    """Return the identity of a GPU machine that is not this one: all that is known is its compute capability."""
    return {
        "present": False,
        "machine": NONE,
        "cpu": NONE,
        "cpu_count": 0,
        "cpu_features": [],
        "memory_bytes": 0,
        "gpu": {"compute_capability": compute_capability},
    }


def fingerprint(known: Mapping[str, Any]) -> str:
    """Return 16 hexadecimal digits that differ where two machines differ in identity."""
    text = json.dumps(known, sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def describe(known: Mapping[str, Any]) -> str:
    """Return an identity in one phrase."""
    card = known.get("gpu")
    parts = []
    if known.get("present"):
        parts.append(f"{known['cpu']}, {known['cpu_count']} CPUs, {known['memory_bytes'] / 2**30:.1f} GiB")
    if card:
        parts.append(f"{card.get('name', 'GPU')} (compute capability {card['compute_capability']})")
    return " with ".join(parts) or NONE


def differences(known: Mapping[str, Any], here: Mapping[str, Any], *, timed: bool) -> list[str]:
    """Return the parts of two identities that make them different kinds of machine, sorted.

    Another card of the same model is no difference: a scheduler gives any of a node's, or another node of the same
    kind. How many CPUs the process may use differs between jobs, so only timed ones are held to it. The memory that a
    kernel has left varies by a few MiB between equal machines.
    """
    found = {key for key in ("machine", "cpu", "cpu_features") if known.get(key) != here[key]}
    if abs(known["memory_bytes"] - here["memory_bytes"]) > _SAME_MEMORY * here["memory_bytes"]:
        found.add("memory_bytes")
    if timed and known["cpu_count"] != here["cpu_count"]:
        found.add("cpu_count")
    cards = [{**(machine["gpu"] or {}), "uuid": None} for machine in (known, here)]
    if cards[0] != cards[1]:
        found.add("gpu")
    return sorted(found)


def require_same(record: Mapping[str, Any], path: Path, *, timed: bool = False) -> None:
    """Refuse to go on where this machine is not of the kind that a device record describes.

    Raises:
        StagebenchError: the identities differ; the text describes both.
    """
    here = identity()
    different = differences(record["identity"], here, timed=timed)
    if different:
        raise StagebenchError(
            f"{path} describes {describe(record['identity'])}, but this job runs on {describe(here)} "
            f"(different: {', '.join(different)}): run it on the former, or delete {path} to start over on this machine"
        )


def host() -> str:
    """Return the name of this machine: the scheduler's for it, where a scheduler runs the job."""
    # Slurm sets it in every task; a node's name there need not be the host's (slurm.conf, NodeName).
    return os.environ.get("SLURMD_NODENAME") or platform.node()


def ran_on() -> dict[str, Any]:
    """Return where this job runs: host, CPUs, its GPU (name and UUID, or None), and what a scheduler gave it."""
    card = gpu.identity()
    return {
        "host": host(),
        "cpus": sorted(os.sched_getaffinity(0)),
        "gpu": None if card is None else {"name": card["name"], "uuid": card["uuid"]},
        "gpus_given": os.environ.get("CUDA_VISIBLE_DEVICES"),
        "slurm_job": os.environ.get("SLURM_JOB_ID"),
    }


def environment() -> dict[str, str]:
    """Return the environment block of this machine: label -> text, "none" where a thing does not exist."""
    here = identity()
    versions = records.versions("torch", "torchvision", "onnx")
    return {
        "Machine": _machine(),
        "CPU": f"{here['cpu']}, {here['cpu_count']} CPUs usable of {os.cpu_count()}",
        "CPU features": ", ".join(here["cpu_features"]) or NONE,
        "Memory": f"{here['memory_bytes'] / 2**30:.1f} GiB",
        "Network": _network(Path("/sys/class")),
        "OS": _os_name(),
        "Kernel": platform.release(),
        **gpu.environment(),
        "Docker": _first_line("docker", "--version"),
        "Container": _container(),
        "Framework": f"PyTorch {versions['torch']}, torchvision {versions['torchvision']}",
        "CUDA toolkit": _nvcc(),
        "Engines": ", ".join(
            f"{label} {_installed(*names)}"
            for label, names in (
                ("TensorRT", ("tensorrt-cu13", "tensorrt-cu12", "tensorrt")),
                ("TensorRT-RTX", ("tensorrt-rtx-cu13", "tensorrt-rtx-cu12", "tensorrt-rtx")),
                ("OpenVINO", ("openvino",)),
                ("ONNX Runtime", ("onnxruntime",)),
            )
        ),
        "ONNX": versions["onnx"],
        "Python": f"{platform.python_implementation()} {platform.python_version()}",
    }


def probe(name: str, compute_capability: str | None, record: Path, *, on_device: bool = False) -> None:
    """Write the record of a device: this machine, or, with a compute capability, one that is known by that alone.

    Args:
        on_device: the job was sent to the device by a scheduler, so that a compute capability has to be this machine's.

    Raises:
        StagebenchError: it was sent to a machine without such a GPU.
    """
    watch = records.Stopwatch()
    if compute_capability is None or on_device:
        known, shown = identity(), environment()
        if compute_capability not in (None, (known["gpu"] or {}).get("compute_capability")):
            raise StagebenchError(
                f"devices.{name} has compute capability {compute_capability}, but this job runs on {host()}: "
                f"{describe(known)}; map {name} to machines that have such a GPU in the profile, or build for it "
                "ahead of time without a cluster's profile"
            )
    else:
        known = absent(compute_capability)
        shown = {"Accelerator": f"not present here; compute capability {compute_capability}, built for ahead of time"}
    records.write_json(
        record,
        records.make_record("device", watch=watch, name=name, host=host(), identity=known, environment=shown),
    )


def _installed(*distributions: str) -> str:
    """Return the version of the first of several distributions of the same library that is installed."""
    return next((version for version in records.versions(*distributions).values() if version != NONE), NONE)


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


def _machine() -> str:
    names = [_read(Path(f"/sys/class/dmi/id/{key}")) for key in ("sys_vendor", "product_name")]
    return " ".join(name for name in names if name) or NONE


def _network(root: Path) -> str:
    """Return the network adapters that have hardware behind them, with their rates, InfiniBand first."""
    found = [
        f"InfiniBand {port.parent.parent.name}: {_read(port / 'rate') or 'rate unknown'}"
        for port in sorted(root.glob("infiniband/*/ports/*"))
    ]
    for adapter in sorted(root.glob("net/*")):
        if not (adapter / "device").exists():  # loopback, bridges and tunnels have no device
            continue
        speed = _read(adapter / "speed")
        rate = f"{speed} Mb/s" if speed.isdigit() and int(speed) > 0 else "rate unknown"
        found.append(f"{adapter.name}: {rate}")
    return "; ".join(found) or NONE


def _os_name() -> str:
    try:
        return platform.freedesktop_os_release().get("PRETTY_NAME", platform.system())
    except OSError:
        return platform.system()


def _first_line(*command: str) -> str:
    """Return the first line that a program prints; "none" where there is no such program."""
    if shutil.which(command[0]) is None:
        return NONE
    done = subprocess.run(command, capture_output=True, text=True, timeout=20, check=False)
    lines = done.stdout.strip().splitlines()
    return lines[0] if done.returncode == 0 and lines else NONE


def _nvcc() -> str:
    if shutil.which("nvcc") is None:
        return NONE
    done = subprocess.run(["nvcc", "--version"], capture_output=True, text=True, timeout=20, check=False)
    return next((line.strip() for line in done.stdout.splitlines() if "release" in line), NONE)


def _container() -> str:
    """Return the kind of container this process runs in, by the marks that the runtimes leave."""
    if Path("/.dockerenv").exists():
        return "Docker"
    if Path("/run/.containerenv").exists():
        return "Podman"
    # systemd-nspawn and LXC set the variable `container`, in lower case.
    return os.environ.get("container") or ("Apptainer" if "APPTAINER_NAME" in os.environ else NONE)  # noqa: SIM112
