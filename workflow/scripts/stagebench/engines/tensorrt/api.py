# ruff: noqa: N802, D102 (the names are the library's, and so is their documentation)
"""The used part of the modules tensorrt (10 and 11) and tensorrt_rtx, as a type: the module itself is passed around.

Only names that all three have are here; what TensorRT-RTX alone has is in `TensorRTRTX`. `make typecheck-tensorrt`
checks both against the real bindings.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    import tensorrt
    import tensorrt_rtx


class TensorRT(Protocol):
    """The module: classes by their names."""

    def __hash__(self) -> int: ...
    @property
    def __name__(self) -> str: ...
    @property
    def Builder(self) -> type[tensorrt.Builder]: ...
    @property
    def BuilderFlag(self) -> type[tensorrt.BuilderFlag]: ...
    @property
    def HardwareCompatibilityLevel(self) -> type[tensorrt.HardwareCompatibilityLevel]: ...
    @property
    def ILogger(self) -> type[tensorrt.ILogger]: ...
    @property
    def IProgressMonitor(self) -> type[tensorrt.IProgressMonitor]: ...
    @property
    def LayerInformationFormat(self) -> type[tensorrt.LayerInformationFormat]: ...
    @property
    def MemoryPoolType(self) -> type[tensorrt.MemoryPoolType]: ...
    @property
    def NetworkDefinitionCreationFlag(self) -> type[tensorrt.NetworkDefinitionCreationFlag]: ...
    @property
    def OnnxParser(self) -> type[tensorrt.OnnxParser]: ...
    @property
    def ProfilingVerbosity(self) -> type[tensorrt.ProfilingVerbosity]: ...
    @property
    def Runtime(self) -> type[tensorrt.Runtime]: ...


class TensorRTRTX(Protocol):
    """The additional part of TensorRT-RTX."""

    @property
    def ComputeCapability(self) -> type[tensorrt_rtx.ComputeCapability]: ...


if TYPE_CHECKING:
    # The modules fulfil what is asked of them.
    _full: TensorRT = tensorrt
    _rtx: TensorRTRTX = tensorrt_rtx
