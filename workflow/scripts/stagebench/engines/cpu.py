"""Helpers for engines on CPUs: which arithmetic a CPU has, and how many of its cores a job may use."""

from __future__ import annotations

from typing import TYPE_CHECKING

from stagebench.host import cpus as host_cpus
from stagebench.records.machine import Identity
from stagebench.vocabulary import OK, Precision, RefusedError, State, unavailable, unsupported

if TYPE_CHECKING:
    from stagebench.engines.base import BuildSpec

# Features of CPUs that add products of bytes in 32 bits.
_WIDE_SUMS = ("amx_int8", "avx512_vnni", "avx_vnni", "i8mm")


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


def require_exact_sums(spec: BuildSpec) -> None:
    """Refuse a model file whose 8-bit weights would overflow on the CPU.

    Without the instructions for it, engines add pairs of products of bytes in 16 bits.

    Raises:
        RefusedError: they would; the text names the key that makes another file.
    """
    if spec.weight_bits is None or spec.weight_bits < 8:
        return
    if not any(feature in spec.device.cpu_features for feature in _WIDE_SUMS):
        raise RefusedError(
            unsupported(
                f"sums of 8-bit weights overflow on {spec.device.cpu} (it has none of {', '.join(_WIDE_SUMS)}): set "
                f"models.{spec.cell.model}.quantization.weight_bits to 7"
            )
        )
