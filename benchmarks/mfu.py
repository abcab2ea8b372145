"""Which share of the machine's measured peak the engines' core rates reach, fp32 and int8."""

from __future__ import annotations

from typing import Any

import artifacts
import gemm
from cores import resident_rate
from pairs import figure

SECONDS = 3


def operations_per_image() -> float:
    """Return ResNet-50's multiplications and additions: twice the MACs that torchvision states of its weights."""
    from torchvision.models import ResNet50_Weights

    return 2e9 * float(ResNet50_Weights.IMAGENET1K_V1.meta["_ops"])


def rates_and_peak(precision: str) -> tuple[list[float], dict[str, Any]]:
    """Return OpenVINO's core rates (images/s) and the peak, measured by turns."""
    rates: list[float] = []
    with artifacts.open_session("openvino", precision) as session:
        resident_rate(session, 1.0)
        peak = gemm.peak(precision, between=lambda: rates.append(resident_rate(session, SECONDS)))
    return rates, peak


def measure() -> dict[str, Any]:
    """Return `mfu` per precision, and the peaks that it is of."""
    results: dict[str, Any] = {"mfu": {}, "peak": {}}
    for precision in artifacts.PRECISIONS:
        rates, peak = rates_and_peak(precision)
        shares = [rate * operations_per_image() / peak["operations_per_s"] for rate in rates]
        results["mfu"][precision] = figure(shares, "ratio")
        results["peak"][precision] = peak
    return results
