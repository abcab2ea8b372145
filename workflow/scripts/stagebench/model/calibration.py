"""Calibration images, and what NNCF makes of them: a file for CPUs, and ranges for whoever places pairs itself."""

from __future__ import annotations

import contextlib
import io
import logging
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import onnx
import onnxruntime
from onnx import helper, numpy_helper

from stagebench.dataset.manifest import calibration_rows, list_digest
from stagebench.errors import StagebenchError
from stagebench.model.batches import batches
from stagebench.model.checks import INPUT
from stagebench.model.placement import Ranges, front
from stagebench.records.models import Calibration
from stagebench.vocabulary import nearest

if TYPE_CHECKING:
    from types import ModuleType

    from numpy.typing import NDArray

    from stagebench.preprocessing import Preprocessing
    from stagebench.quantisation import QuantisationSettings

# Names of our methods in NNCF; its own choice has none.
_METHODS = {
    "minmax": "MINMAX",
    "mean_minmax": "MEAN_MINMAX",
    "quantile": "MEAN_QUANTILE",
    "histogram": "HISTOGRAM",
}


class CalibrationImages:
    """The fixed list of a data set's calibration images, decoded when they are read."""

    def __init__(self, manifest: Path, preprocessing: Preprocessing, count: int) -> None:
        self._manifest = manifest
        self._preprocessing = preprocessing
        self.rows = calibration_rows(manifest, count)

    def read(self) -> list[NDArray[np.uint8]]:
        """Return the images, each uint8 (1, crop, crop, 3); 150 kB each."""
        return list(batches(self._manifest, self.rows, self._preprocessing, 1))

    def describe(self) -> Calibration:
        """Return the list's entry in a record."""
        splits = tuple(sorted({row.split for row in self.rows}))
        return Calibration(images=len(self.rows), splits=splits, sha256=list_digest(self.rows))


def quantised(source: Path, images: CalibrationImages, settings: QuantisationSettings) -> onnx.ModelProto:
    """Return a simplified model as NNCF quantises it for CPUs.

    Weights are signed and symmetric; activations are symmetric, and unsigned where they cannot be negative. The
    preprocessing in front of the network stays in floating point: NNCF would quantise it, too, the bytes of the image a
    second time.

    Raises:
        StagebenchError: `exclude` names a node that there is not.
    """
    nncf = load_nncf()
    from nncf.quantization.range_estimator import RangeEstimatorParametersSet

    model = onnx.load(source)
    names = [node.name for node in model.graph.node]
    for name in settings.exclude:
        if name not in names:
            raise StagebenchError(f"quantization.exclude: {source} has no node {name!r}{nearest(name, names)}")
    fix = nncf.OverflowFix.ENABLE if settings.weight_bits < 8 else nncf.OverflowFix.DISABLE
    advanced = nncf.AdvancedQuantizationParameters(overflow_fix=fix)
    if settings.method in _METHODS:
        chosen = getattr(RangeEstimatorParametersSet, _METHODS[settings.method])
        advanced.activations_range_estimator_params = chosen
    examples = images.read()
    # Progress bars do not belong into the job's output.
    with contextlib.redirect_stdout(io.StringIO()):
        made: onnx.ModelProto = nncf.quantize(
            model,
            nncf.Dataset(examples, lambda image: {INPUT: image}),
            target_device=nncf.TargetDevice.CPU,
            subset_size=len(examples),
            ignored_scope=nncf.IgnoredScope(names=[*(node.name for node in front(model.graph)), *settings.exclude]),
            advanced_parameters=advanced,
        )
    return made


def ranges(source: Path, images: CalibrationImages, settings: QuantisationSettings) -> Ranges:
    """Return the ranges that NNCF finds, and the means of what goes into convolutions and matrix products.

    Raises:
        StagebenchError: as for `quantised`.
    """
    model = quantised(source, images, settings)
    constants = {tensor.name: numpy_helper.to_array(tensor) for tensor in model.graph.initializer}
    magnitudes = {}
    for node in model.graph.node:
        if node.op_type == "QuantizeLinear":
            scale, zero = (constants[name] for name in node.input[1:])
            least, most = np.iinfo(zero.dtype).min, np.iinfo(zero.dtype).max
            # The lowest code of a signed range is not used. Depthwise convolutions have a range for each channel.
            codes = np.maximum(most - zero.astype(int), zero.astype(int) - least - (least < 0))
            magnitudes[node.input[0]] = float((codes * scale).max())
    return Ranges(magnitudes, _means(source, images))


def _means(source: Path, images: CalibrationImages) -> dict[str, NDArray[np.float32]]:
    """Return the mean of each channel of what goes into convolutions and matrix products, float32 (channels,)."""
    model = onnx.load(source)
    kinds = {node.input[0]: node.op_type for node in model.graph.node if node.op_type in ("Conv", "Gemm")}
    axes = {"Conv": [0, 2, 3], "Gemm": [0]}
    for name, kind in kinds.items():
        model.graph.initializer.append(numpy_helper.from_array(np.array(axes[kind]), f"{name}/axes"))
        model.graph.node.append(helper.make_node("ReduceMean", [name, f"{name}/axes"], [f"{name}/mean"], keepdims=0))
        model.graph.output.append(onnx.ValueInfoProto(name=f"{name}/mean"))
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    wanted = [f"{name}/mean" for name in kinds]
    found = [session.run(wanted, {INPUT: image}) for image in images.read()]
    return {name: np.mean(values, axis=0) for name, values in zip(kinds, zip(*found, strict=True), strict=True)}


def load_nncf() -> ModuleType:
    """Import NNCF, without the reports of usage that it would send to its makers.

    Its variable NNCF_CI keeps it from sending, but what sends is made all the same, with an identity in the user's
    home. So the package that sends is hidden while NNCF is imported, which then does without.
    """
    os.environ["NNCF_CI"] = "1"
    if "nncf" not in sys.modules:
        sender = sys.modules.get("openvino_telemetry")
        sys.modules["openvino_telemetry"] = None  # type: ignore[assignment]  # the import system's word for "not there"
        try:
            import nncf
        finally:
            del sys.modules["openvino_telemetry"]
            if sender is not None:
                sys.modules["openvino_telemetry"] = sender
    import nncf

    logging.getLogger("nncf").setLevel(logging.ERROR)
    loaded: ModuleType = nncf
    return loaded
