"""The preprocessing of an image: one value, shared by the decoder, the exported graph and the config."""

from __future__ import annotations

import hashlib
import json
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator


class Preprocessing(BaseModel):
    """Steps from an image to the model's input; the defaults are those of ImageNet's validation.

    Resize and crop happen in the decoder (uint8), mean and standard deviation inside the exported graph.
    The values are torchvision's `ImageClassification` preset for ResNet-50's V1 weights.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    resize: int = Field(256, ge=1, description="Length of the shorter side after the resize, in pixels.")
    crop: int = Field(224, ge=1, description="Side of the square cut from the centre, in pixels.")
    interpolation: Literal["bilinear"] = Field(
        "bilinear", description="Resampling filter of the resize (antialiased, as Pillow does it)."
    )
    mean: tuple[float, float, float] = Field(
        (0.485, 0.456, 0.406), description="Mean of the red, green and blue channel, on a scale from 0 to 1."
    )
    std: tuple[float, float, float] = Field(
        (0.229, 0.224, 0.225), description="Standard deviation of each channel, on a scale from 0 to 1."
    )

    @model_validator(mode="after")
    def _crop_fits(self) -> Preprocessing:
        if self.crop > self.resize:
            raise ValueError(f"crop ({self.crop}) is larger than resize ({self.resize}): choose crop <= resize")
        return self

    def recipe(self, decoder: str) -> str:
        """Name the pixels that this preprocessing makes: 16 hexadecimal digits.

        Only what changes a decoded pixel is part of it: resize, crop, interpolation and `decoder`, a text that
        names the decoding library and its version. Mean and standard deviation are applied in the graph.
        """
        parts = {"resize": self.resize, "crop": self.crop, "interpolation": self.interpolation, "decoder": decoder}
        return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()[:16]
