"""FlagPerf's published rows: figures for comparison, not measured in this run."""

from __future__ import annotations

from dataclasses import dataclass

from stagebench.report.formatting import gib, latency, pair, rate

#: Source of the rows: FlagPerf's README while it had a latency column.
SOURCE = "FlagOpen/FlagPerf, inference/benchmarks/resnet50/README.md at commit 2139f4f4 (2023-07-11)"


@dataclass(frozen=True)
class PublishedRow:
    """One row as printed: times in seconds, rates in images/s, latency in microseconds, accuracy in percent."""

    configuration: str
    model: str
    engine: str
    precision: str
    batch: int
    e2e_time_s: float
    p_val_whole: float
    p_val_core: float
    p_infer_whole: float
    p_infer_core: float
    latency_us: float
    acc_infer: float
    acc_val: float
    mem_used_gib: float
    mem_total_gib: float

    def texts(self) -> dict[str, str]:
        """Return the row's texts by the names of the metrics; accuracies with the two decimals that were published."""
        return {
            "precision": self.precision,
            "bs": str(self.batch),
            "mem": gib(self.mem_used_gib, self.mem_total_gib),
            "e2e_time": rate(self.e2e_time_s),
            "p_val_whole": rate(self.p_val_whole),
            "p_val_core": rate(self.p_val_core),
            "p_infer_whole": rate(self.p_infer_whole),
            "p_infer_core": rate(self.p_infer_core),
            "latency": latency(self.latency_us),
            "acc (infer/val)": pair(self.acc_infer, self.acc_val, 2),
        }


PUBLISHED = (
    PublishedRow(
        configuration="NVIDIA A100-SXM4-40GB",
        model="resnet50",
        engine="tensorrt",
        batch=256,
        precision="fp16",
        e2e_time_s=585.8,
        p_val_whole=1353.3,
        p_val_core=4390.9,
        p_infer_whole=1384.5,
        p_infer_core=11710.0,
        latency_us=85,
        acc_infer=76.17,
        acc_val=76.21,
        mem_used_gib=19.88,
        mem_total_gib=40.0,
    ),
    PublishedRow(
        configuration="NVIDIA A100-SXM4-40GB",
        model="resnet50",
        engine="tensorrt",
        batch=256,
        precision="fp32",
        e2e_time_s=474.4,
        p_val_whole=1487.3,
        p_val_core=2653.2,
        p_infer_whole=1560.3,
        p_infer_core=6091.6,
        latency_us=164,
        acc_infer=76.20,
        acc_val=76.19,
        mem_used_gib=28.86,
        mem_total_gib=40.0,
    ),
)
