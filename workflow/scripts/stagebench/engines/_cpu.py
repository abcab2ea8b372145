"""What the engines on CPUs share: which arithmetic a CPU has, and how many of its cores a job may use."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

from stagebench.engines.base import Support, Supported, Unavailable, Unsupported

# CPU features (as in /proc/cpuinfo) that multiply in a precision.
_FEATURES = {
    "bf16": ("amx_bf16", "avx512_bf16", "bf16"),
    "int8": ("amx_int8", "avx512_vnni", "avx_vnni", "i8mm", "avx2", "asimd"),
}


def cpus() -> int:
    """Return how many CPUs this process may use: those of its affinity mask."""
    return len(os.sched_getaffinity(0))


def support(precision: str, device: Mapping[str, Any]) -> Support:
    """Say whether the CPU of a device record multiplies in a precision; fp16 is never more than a storage type here."""
    identity = device["identity"]
    if not identity["present"]:
        return Unavailable("the device is not this machine, and engines on CPUs are built where they run")
    features = identity["cpu_features"]
    if precision == "fp32":
        return Supported("single precision")
    if precision not in _FEATURES:
        return Unsupported(f"CPUs have no {precision} arithmetic that is used here: it would be computed in fp32")
    found = [feature for feature in _FEATURES[precision] if feature in features]
    if found:
        return Supported(found[0])
    return Unsupported(f"{identity['cpu']} has no {precision} arithmetic (none of {', '.join(_FEATURES[precision])})")
