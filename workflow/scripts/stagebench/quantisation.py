"""How a model is quantised: one value, shared by the preparing stage and the config."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field


class QuantisationSettings(BaseModel):
    """How the int8 and fp8 files of a model are made."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    method: Literal["default", "minmax", "mean_minmax", "quantile", "histogram"] = Field(
        "default",
        description="Ranges of activations: NNCF's own choice, the extremes over all calibration images, their mean "
        "over images, the mean of quantiles, or what a histogram says loses least.",
    )
    images: int = Field(64, ge=1, le=500, description="Calibration images, balanced over classes.")
    weight_bits: Literal[7, 8] = Field(
        8,
        description="Bits of int8 weights. Set 7 for CPUs that add pairs of products in 16 bits, where 8 overflow "
        "(those without VNNI, AMX and i8mm): they refuse files with 8.",
    )
    exclude: tuple[str, ...] = Field(
        (), description="Names of nodes of the simplified ONNX file that are not quantised, such as `/network/fc/Gemm`."
    )
