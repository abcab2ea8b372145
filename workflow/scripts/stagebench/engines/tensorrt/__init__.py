"""TensorRT 10 and 11, on NVIDIA GPUs."""

from __future__ import annotations

from stagebench.engines.tensorrt.engine import TensorRTEngine

ENGINE = TensorRTEngine("tensorrt", ("tensorrt-cu13", "tensorrt-cu12", "tensorrt"), ahead_of_time=False)
