"""One prepared ONNX file per precision: its tensor types are the precision, engines get no other word on it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import onnx

from stagebench.errors import StagebenchError
from stagebench.model import checks
from stagebench.model.batches import validation_images
from stagebench.preprocessing import Preprocessing
from stagebench.records.data import DatasetRecord
from stagebench.records.envelope import FileEntry, Stopwatch, passed_on
from stagebench.records.failures import failure_recorded
from stagebench.records.io import replacing, versions
from stagebench.records.models import Quantisation, SimplifiedRecord, Variant, VariantRecord, WeightsRecord
from stagebench.vocabulary import ONNX_VARIANTS

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from stagebench.model.architecture import Classifier

# Held-out images on which a variant is compared with fp32.
_COMPARED = 16


@dataclass(frozen=True)
class _Source:
    """The sources of a variant."""

    simplified: Path
    weights: Path
    architecture: str
    preprocessing: Preprocessing
    manifest: Path
    #: Held-out images, uint8 (N, crop, crop, 3), and the simplified file's logits on them.
    images: NDArray[np.uint8]
    wanted: NDArray[np.float32]


@dataclass(frozen=True)
class _Made:
    """A variant's logits on the compared images, the library that computed them, and how it was quantised."""

    logits: NDArray[np.float32]
    compared_in: str = "onnxruntime"
    quantisation: Quantisation | None = None


def prepare_variant(
    onnx_variant: str,
    simplified: Path,
    simplified_record: Path,
    out: Path,
    record: Path,
    *,
    weights: Path,
    weights_record: Path,
    architecture: str,
    preprocessing: Preprocessing,
    manifest: Path,
    dataset_record: Path,
) -> None:
    """Write the prepared file of an ONNX variant and compare it with fp32 on held-out images.

    Args:
        onnx_variant: one of `stagebench.vocabulary.ONNX_VARIANTS`.

    If the file cannot be made, is invalid or gives no finite logits, the record has the state "failed".

    Raises:
        StagebenchError: the variant is unknown.
        ChangedError: an input is not what its record describes.
    """
    watch = Stopwatch()
    if onnx_variant not in _MAKERS:
        raise StagebenchError(f"unknown ONNX variant {onnx_variant!r}: there are {', '.join(ONNX_VARIANTS)}")
    made_from, checkpoint = SimplifiedRecord.read(simplified_record), WeightsRecord.read(weights_record)
    dataset, outputs = DatasetRecord.read(dataset_record), {"onnx": out}
    if passed_on(VariantRecord, record, watch, sources=[made_from, checkpoint, dataset], outputs=outputs):
        return
    made_from.artifact("onnx", simplified).verify()
    checkpoint.artifact("weights", weights).verify()
    dataset.artifact("manifest", manifest).verify()
    with failure_recorded(VariantRecord, record, watch, outputs=outputs):
        images = validation_images(manifest, _COMPARED, preprocessing)
        wanted = checks.run(simplified, images)
        source = _Source(simplified, weights, architecture, preprocessing, manifest, images, wanted)
        with replacing(out) as part:
            made = _MAKERS[onnx_variant](source, part)
        if not np.isfinite(made.logits).all():
            raise StagebenchError(f"{out}: gives logits that are not finite")
        VariantRecord.make(
            watch,
            result=Variant(
                onnx_variant=onnx_variant,
                graph=checks.check_graph(out, types=onnx_variant != "bf16"),
                compared_in=made.compared_in,
                compared=checks.agreement(made.logits, wanted[: len(made.logits)], "fp32"),
                quantisation=made.quantisation,
            ),
            inputs={
                "onnx": made_from.outputs["onnx"],
                "weights": checkpoint.outputs["weights"],
                "manifest": dataset.outputs["manifest"],
            },
            outputs={"onnx": FileEntry.of(out)},
            versions=versions("torch", "onnx", "onnxruntime"),
        ).write(record)


def _fp32(source: _Source, out: Path) -> _Made:
    out.write_bytes(source.simplified.read_bytes())
    return _Made(source.wanted)


def _fp16(source: _Source, out: Path) -> _Made:
    from stagebench.model.export import to_onnx

    out.write_bytes(to_onnx(_cast(source, "float16"), source.preprocessing))
    return _Made(checks.run(out, source.images))


def _bf16(source: _Source, out: Path) -> _Made:
    """Export in bfloat16. ONNX Runtime has no such kernels on CPUs, so torch's own bfloat16 is compared.

    Without bfloat16 arithmetic torch takes a second for an image: a quarter of them has to do.
    """
    import torch

    from stagebench.model.export import to_onnx

    classifier = _cast(source, "bfloat16")
    out.write_bytes(to_onnx(classifier, source.preprocessing))
    with torch.no_grad():
        logits: NDArray[np.float32] = classifier(torch.from_numpy(source.images[: _COMPARED // 4])).numpy()
    return _Made(logits, compared_in="torch")


def _cast(source: _Source, dtype: str) -> Classifier:
    """Return the classifier with its network in another of torch's floating-point types."""
    import torch

    from stagebench.model.architecture import Classifier, load_module

    network = load_module(source.architecture, source.weights).to(getattr(torch, dtype))
    return Classifier(network, source.preprocessing).eval()


def _int8_symmetric(source: _Source, out: Path) -> _Made:
    """Quantise as TensorRT takes it: signed, symmetric, biases left in floating point."""
    from onnxruntime.quantization import CalibrationMethod, QuantType

    quantisation = _quantise(
        source,
        out,
        activation_type=QuantType.QInt8,
        weight_type=QuantType.QInt8,
        calibrate_method=CalibrationMethod.MinMax,
        extra_options={"ActivationSymmetric": True, "WeightSymmetric": True, "QuantizeBias": False},
    )
    return _Made(checks.run(out, source.images, optimise=False), quantisation=quantisation)


def _int8_asymmetric(source: _Source, out: Path) -> _Made:
    """Quantise as CPUs are fast with: unsigned activations with a zero point, signed weights, integer biases.

    Weights keep 7 bits: CPUs without VNNI add pairs of products in 16 bits, where 8-bit weights overflow and the
    classes of one image in five change.
    """
    from onnxruntime.quantization import CalibrationMethod, QuantType

    quantisation = _quantise(
        source,
        out,
        activation_type=QuantType.QUInt8,
        weight_type=QuantType.QInt8,
        calibrate_method=CalibrationMethod.MinMax,
        reduce_range=True,
        extra_options={"ActivationSymmetric": False, "WeightSymmetric": True},
    )
    return _Made(checks.run(out, source.images, optimise=False), quantisation=quantisation)


def _fp8(source: _Source, out: Path) -> _Made:
    from onnxruntime.quantization import CalibrationMethod, QuantType

    quantisation = _quantise(
        source,
        out,
        activation_type=QuantType.QFLOAT8E4M3FN,
        weight_type=QuantType.QFLOAT8E4M3FN,
        calibrate_method=CalibrationMethod.Distribution,
        # Weights as a pair of operations: otherwise the calibration takes minutes for the same accuracy.
        extra_options={"QuantizeBias": False, "AddQDQPairToWeight": True},
    )
    _mend_scales(out)
    return _Made(checks.run(out, source.images, optimise=False), quantisation=quantisation)


def _mend_scales(path: Path) -> None:
    """Give channels whose weights are all zero a scale of one: the quantiser computes zero, which divides 0 by 0."""
    model = onnx.load(path)
    scales = {node.input[1] for node in model.graph.node if node.op_type in ("QuantizeLinear", "DequantizeLinear")}
    for tensor in model.graph.initializer:
        if tensor.name in scales:
            values = onnx.numpy_helper.to_array(tensor)
            if (values == 0).any():
                mended = np.where(values == 0, np.ones_like(values), values)
                tensor.CopyFrom(onnx.numpy_helper.from_array(mended, tensor.name))
    onnx.save(model, path)


def _quantise(
    source: _Source,
    out: Path,
    *,
    activation_type: Any,
    weight_type: Any,
    calibrate_method: Any,
    extra_options: dict[str, bool],
    reduce_range: bool = False,
) -> Quantisation:
    """Quantise convolutions, matrix products and additions with calibrated ranges; return how."""
    from onnxruntime.quantization import QuantFormat, quantize_static
    from onnxruntime.quantization.shape_inference import quant_pre_process

    from stagebench.model.calibration import CalibrationImages

    reader = CalibrationImages(source.manifest, source.preprocessing)
    operations = ["Conv", "Gemm", "MatMul", "Add"]
    inferred = out.with_suffix(".inferred")
    # Shapes alone: simplification has done the rest.
    quant_pre_process(source.simplified, inferred, skip_optimization=True, skip_symbolic_shape=True)
    quantize_static(
        inferred,
        out,
        reader,
        quant_format=QuantFormat.QDQ,
        op_types_to_quantize=operations,
        per_channel=True,
        reduce_range=reduce_range,
        activation_type=activation_type,
        weight_type=weight_type,
        calibrate_method=calibrate_method,
        extra_options=extra_options,
    )
    inferred.unlink()
    return Quantisation(
        activations=activation_type.name,
        weights=weight_type.name,
        weight_bits=7 if reduce_range else 8,
        calibration_method=calibrate_method.name,
        calibration=reader.describe(),
        operations=tuple(operations),
        per_channel=True,
        options=extra_options,
    )


#: Makes the file of each of `ONNX_VARIANTS`.
_MAKERS: dict[str, Callable[[_Source, Path], _Made]] = {
    "fp32": _fp32,
    "fp16": _fp16,
    "bf16": _bf16,
    "int8-symmetric": _int8_symmetric,
    "int8-asymmetric": _int8_asymmetric,
    "fp8": _fp8,
}
