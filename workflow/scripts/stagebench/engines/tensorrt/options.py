"""Options of TensorRT and TensorRT-RTX in the config."""

from __future__ import annotations

from typing import Literal, Self

from pydantic import Field, model_validator

from stagebench.engines.base import Options


class DynamicBatch(Options):
    """Bounds of an engine whose batch size is open."""

    min: int = Field(ge=1, description="Smallest batch size that the engine takes.")
    opt: int = Field(ge=1, description="Batch size that it is tuned for.")
    max: int = Field(ge=1, description="Largest batch size that it takes.")

    @model_validator(mode="after")
    def _in_order(self) -> Self:
        if not self.min <= self.opt <= self.max:
            raise ValueError(f"min {self.min}, opt {self.opt}, max {self.max} are not in order: min <= opt <= max")
        return self


class BuildOptions(Options):
    """Build options of TensorRT and TensorRT-RTX."""

    workspace_gib: float | None = Field(
        None, gt=0, description="Limit of the builder's scratch memory in GiB; by default the card's memory."
    )
    builder_optimization_level: int | None = Field(
        None, ge=0, le=5, description="0 builds fastest, 5 tries most; by default the library's own (3)."
    )
    hardware_compatibility: Literal["none", "ampere_plus", "same_compute_capability"] = Field(
        "none", description="Other cards that the engine shall run on, at a cost in speed."
    )
    profiling_verbosity: Literal["none", "layer_names_only", "detailed"] = Field(
        "detailed", description="Layer detail stored in the engine and its record; `executed` needs `detailed`."
    )
    timing_cache: bool = Field(True, description="Keep the builder's timings of tactics between builds on a device.")
    dynamic_batch: DynamicBatch | None = Field(
        None, description="Build with an open batch size within bounds; by default it is the cell's own, and static."
    )


class RunOptions(Options):
    """Run options of TensorRT and TensorRT-RTX."""

    cuda_graphs: bool = Field(True, description="Launch each request as one CUDA graph.")
