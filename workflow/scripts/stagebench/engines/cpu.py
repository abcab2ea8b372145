"""Helpers for engines on CPUs: which arithmetic a CPU has, and how many of its cores a job may use."""

from __future__ import annotations

from stagebench.host import cpus as host_cpus
from stagebench.records.machine import Identity
from stagebench.vocabulary import OK, Precision, State, unavailable, unsupported


def cpus() -> int:
    """Return how many CPUs this process may use: `host.cpus.usable`."""
    return host_cpus.usable()


def support(precision: Precision, device: Identity) -> State:
    """Return whether the CPU of a device multiplies in a precision; fp16 is never more than a storage type here."""
    if not device.present:
        return unavailable("the device is not this machine, and engines on CPUs are built where they run")
    if precision.cpu_features is None:
        return OK
    if not precision.cpu_features:
        return unsupported(f"CPUs have no {precision.name} arithmetic that is used here: it would be computed in fp32")
    if any(feature in device.cpu_features for feature in precision.cpu_features):
        return OK
    return unsupported(f"{device.cpu} has no {precision.name} arithmetic (none of {', '.join(precision.cpu_features)})")
