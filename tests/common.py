"""What several tests share: values, archives, and a model as the stages leave it."""

from __future__ import annotations

import io
import tarfile
from pathlib import Path
from types import SimpleNamespace

from stagebench.preprocessing import Preprocessing

ARCHITECTURE = "tiny.tiny_resnet"
PREPROCESSING = Preprocessing().model_dump(mode="json")
IMAGES = 32


def pack_archive(path, members, form=tarfile.USTAR_FORMAT):
    """Write a tar archive of (name, contents); contents may be the type of a member that holds none. Return `path`."""
    with tarfile.open(path, "w", format=form) as tar:
        for name, data in members:
            entry = tarfile.TarInfo(name)
            if data in (tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.CHRTYPE):
                entry.type, entry.linkname = data, "/etc/passwd"
                tar.addfile(entry)
            else:
                entry.size = len(data)
                tar.addfile(entry, io.BytesIO(data))
    return path


def prepared_model(architecture: str, sample: SimpleNamespace, folder: Path) -> SimpleNamespace:
    """Fit a network's weights, export and simplify it; `variant(name)` of the result prepares one, once."""
    from stagebench.model.demo import fit_weights
    from stagebench.model.export import export_model
    from stagebench.model.simplify import simplify_model
    from stagebench.model.variants import prepare_variant

    common = {"preprocessing": PREPROCESSING, "manifest": sample.manifest}
    weights, weights_record = folder / "weights.pth", folder / "weights.json"
    fit_weights(weights, weights_record, architecture=architecture, dataset_record=sample.record, **common)
    exported, exported_record = folder / "exported.onnx", folder / "exported.json"
    export_model(weights, weights_record, exported, exported_record, architecture=architecture, **common)
    simplified, simplified_record = folder / "simplified.onnx", folder / "simplified.json"
    simplify_model(exported, exported_record, simplified, simplified_record, **common)

    def variant(name: str) -> tuple[Path, Path]:
        onnx, record = folder / f"{name}.onnx", folder / f"{name}.json"
        if not record.exists():
            prepare_variant(
                name,
                simplified,
                simplified_record,
                onnx,
                record,
                weights=weights,
                weights_record=weights_record,
                architecture=architecture,
                **common,
            )
        return onnx, record

    return SimpleNamespace(
        folder=folder,
        architecture=architecture,
        preprocessing=PREPROCESSING,
        weights=weights,
        weights_record=weights_record,
        exported=exported,
        exported_record=exported_record,
        simplified=simplified,
        simplified_record=simplified_record,
        variant=variant,
    )
