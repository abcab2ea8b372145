"""TensorRT-RTX, which also builds for cards that are not in the machine."""

from __future__ import annotations

from stagebench.engines.tensorrt.engine import TensorRTEngine

ENGINE = TensorRTEngine("tensorrt_rtx", ("tensorrt-rtx-cu13", "tensorrt-rtx-cu12", "tensorrt-rtx"), ahead_of_time=True)
