"""One prepared ONNX file per precision: its tensor types are the precision, engines get no other word on it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import onnx

from stagebench.dataset.download import copy
from stagebench.errors import StagebenchError
from stagebench.model import calibration, checks
from stagebench.model.batches import validation_images
from stagebench.model.placement import place
from stagebench.preprocessing import Preprocessing
from stagebench.quantisation import QuantisationSettings
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
    quantisation: QuantisationSettings

    def calibration(self) -> calibration.CalibrationImages:
        """Return the images to calibrate with."""
        return calibration.CalibrationImages(self.manifest, self.preprocessing, self.quantisation.images)


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
    quantisation: QuantisationSettings = QuantisationSettings(),  # noqa: B008 - frozen
    file: str | None = None,
    sha256: str | None = None,
) -> None:
    """Write the prepared file of an ONNX variant and compare it with fp32 on held-out images.

    Args:
        onnx_variant: one of `stagebench.vocabulary.ONNX_VARIANTS`.
        file: the user's own quantised file, which is taken in place of one that is made here.
        sha256: its expected digest; None for a file that is taken as it is.

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
        source = _Source(simplified, weights, architecture, preprocessing, manifest, images, wanted, quantisation)
        with replacing(out) as part:
            made = _MAKERS[onnx_variant](source, part) if file is None else _own(source, part, file, sha256)
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
                prepared=file,
            ),
            inputs={
                "onnx": made_from.outputs["onnx"],
                "weights": checkpoint.outputs["weights"],
                "manifest": dataset.outputs["manifest"],
            },
            outputs={"onnx": FileEntry.of(out)},
            versions=versions("torch", "onnx", "onnxruntime", "nncf"),
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


def _int8_cpu(source: _Source, out: Path) -> _Made:
    """Quantise as NNCF places pairs for CPUs; OpenVINO and ONNX Runtime compute its file in the fewest layers."""
    images = source.calibration()
    onnx.save(calibration.quantised(source.simplified, images, source.quantisation), out)
    return _quantised(source, out, images)


def _int8_tensorrt(source: _Source, out: Path) -> _Made:
    """Quantise where TensorRT fuses, signed and symmetric: it takes nothing else."""
    return _placed(source, out, fp8=False)


def _fp8(source: _Source, out: Path) -> _Made:
    """Quantise in fp8 where TensorRT fuses."""
    return _placed(source, out, fp8=True)


def _placed(source: _Source, out: Path, *, fp8: bool) -> _Made:
    images, settings = source.calibration(), source.quantisation
    ranges = calibration.ranges(source.simplified, images, settings)
    model = onnx.load(source.simplified)
    place(model, ranges, fp8=fp8, weight_bits=settings.weight_bits, exclude=settings.exclude)
    onnx.save(model, out)
    return _quantised(source, out, images)


def _quantised(source: _Source, out: Path, images: calibration.CalibrationImages) -> _Made:
    """Run a quantised file as it is written, and describe it."""
    settings, found = source.quantisation, checks.quantised(onnx.load(out))
    described = Quantisation(
        activations=found.activations,
        weights=found.weights,
        elsewhere=found.elsewhere,
        weight_bits=8 if "float8e4m3fn" in found.weights else settings.weight_bits,
        library="nncf",
        method=settings.method,
        calibration=images.describe(),
        operations=found.operations,
        exclude=settings.exclude,
    )
    return _Made(checks.run(out, source.images, optimise=False), quantisation=described)


def _own(source: _Source, out: Path, file: str, sha256: str | None) -> _Made:
    """Copy the user's own quantised file and run it as it is written.

    Raises:
        StagebenchError: it is missing, has another digest, has other ends than the simplified file, or no Q/DQ.
    """
    path = Path(file).expanduser()
    copy(path, out, algorithm="sha256", expected=sha256)
    checks.check_graph(path)
    kinds = {node.op_type for node in onnx.load(path).graph.node}
    if not {"QuantizeLinear", "DequantizeLinear"} <= kinds:
        raise StagebenchError(f"{path}: has no QuantizeLinear and DequantizeLinear, so it is not a quantised model")
    logits = checks.run(out, source.images, optimise=False)
    if logits.shape != source.wanted.shape:
        raise StagebenchError(
            f"{path}: gives {logits.shape[1]} classes, {source.simplified} gives {source.wanted.shape[1]}: "
            "name a file of the same model"
        )
    return _Made(logits)


#: Makes the file of each of `ONNX_VARIANTS`.
_MAKERS: dict[str, Callable[[_Source, Path], _Made]] = {
    "fp32": _fp32,
    "fp16": _fp16,
    "bf16": _bf16,
    "int8-cpu": _int8_cpu,
    "int8-tensorrt": _int8_tensorrt,
    "fp8": _fp8,
}
