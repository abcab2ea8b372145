"""The environment of a figure: everything about the machine and its software that may explain it.

Collected by each job that builds or measures, from the kernel's own files and the libraries' metadata. It decides
nothing, so it is plumbing: an edit here reruns nothing (job/closure.py).
"""

from __future__ import annotations

import os
import platform
import shutil
import subprocess
from functools import cache
from pathlib import Path

from stagebench.host import gpu_state, identity
from stagebench.records.io import NONE, versions
from stagebench.records.machine import Accelerator, Environment

_FRAMEWORK = ("torch", "torchvision", "onnx")
_TIMEOUT_S = 20


@cache
def environment() -> Environment:
    """Return the environment of this process."""
    here = identity.identity()
    driver, cuda_driver, cuda_runtime = gpu_state.driver_versions()
    return Environment(
        host=identity.host(),
        machine=_machine(),
        cpu=here.cpu,
        cpus_usable=here.cpu_count,
        cpus_total=os.cpu_count() or 0,
        cpu_features=here.cpu_features,
        cpu_clock=_cpu_clock(Path("/sys/devices/system/cpu/cpu0/cpufreq")),
        memory_bytes=here.memory_bytes,
        network=_network(Path("/sys/class")),
        os=_os_name(),
        kernel=platform.release(),
        accelerator=_accelerator(here.gpu),
        driver=driver,
        cuda_driver=cuda_driver,
        cuda_runtime=cuda_runtime,
        cuda_toolkit=_output("release", "nvcc", "--version"),
        gpu=gpu_state.settings(),
        docker=_output("", "docker", "--version"),
        container=_container(),
        framework=versions(*_FRAMEWORK),
        python=f"{platform.python_implementation()} {platform.python_version()}",
    )


def _accelerator(card: Accelerator | None) -> str:
    if card is None:
        return NONE
    memory = f"{(card.memory_bytes or 0) / 2**30:.1f} GiB"
    partitioned = ", partitioned (MIG)" if card.partitioned else ""
    return f"{card.name}, {memory}, compute capability {card.compute_capability}, {card.uuid}{partitioned}"


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8", errors="replace").strip()
    except OSError:
        return ""


def _machine() -> str:
    names = [_read(Path(f"/sys/class/dmi/id/{key}")) for key in ("sys_vendor", "product_name")]
    return " ".join(name for name in names if name) or NONE


def _cpu_clock(folder: Path) -> str:
    """Return governor and limits of the first CPU's clock; "none" where the kernel does not manage it (most VMs)."""
    governor, least, most = (
        _read(folder / name) for name in ("scaling_governor", "scaling_min_freq", "scaling_max_freq")
    )
    if not (least.isdigit() and most.isdigit()):
        return NONE
    return f"governor {governor or 'unknown'}, {int(least) / 1e6:.2f} to {int(most) / 1e6:.2f} GHz"


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


def _output(containing: str, *command: str) -> str:
    """Return the first line with certain words that a program prints; "none" where there is no such program or line."""
    if shutil.which(command[0]) is None:
        return NONE
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=_TIMEOUT_S, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return NONE
    lines = [line.strip() for line in done.stdout.splitlines() if line.strip() and containing in line]
    return lines[0] if done.returncode == 0 and lines else NONE


def _container() -> str:
    """Return the kind of container this process runs in, by the marks that the runtimes leave."""
    if Path("/.dockerenv").exists():
        return "Docker"
    if Path("/run/.containerenv").exists():
        return "Podman"
    # systemd-nspawn and LXC set the variable `container`, in lower case.
    return os.environ.get("container") or ("Apptainer" if "APPTAINER_NAME" in os.environ else NONE)  # noqa: SIM112
