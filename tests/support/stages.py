"""What several tests share: values, archives, and a model as the stages leave it."""

from __future__ import annotations

import io
import tarfile
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from stagebench.preprocessing import Preprocessing
from stagebench.quantisation import QuantisationSettings

ARCHITECTURE = "support.tiny.tiny_resnet"
PREPROCESSING = Preprocessing()
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


def archive_record(path: Path, archive: Path) -> Path:
    """Write the record of an archive that a test made; return its path."""
    from stagebench.records.data import Archive, ArchiveRecord
    from stagebench.records.envelope import FileEntry, Stopwatch

    made = Archive(source="a test", fetched=False, photographs=())
    ArchiveRecord.make(Stopwatch(), result=made, outputs={"archive": FileEntry.of(archive)}).write(path)
    return path


def prepared_model(architecture: str, sample: SimpleNamespace, folder: Path) -> SimpleNamespace:
    """Fit a network's weights, export and simplify it; `variant(name)` of the result prepares one, once.

    `variant` takes the settings of quantisation by name.
    """
    from stagebench.model.demo import fit_weights
    from stagebench.model.export import export_model
    from stagebench.model.simplify import simplify_model
    from stagebench.model.variants import prepare_variant

    common = {"preprocessing": PREPROCESSING, "manifest": sample.manifest, "dataset_record": sample.record}
    weights, weights_record = folder / "weights.pth", folder / "weights.json"
    fit_weights(weights, weights_record, architecture=architecture, **common)
    exported, exported_record = folder / "exported.onnx", folder / "exported.json"
    export_model(weights, weights_record, exported, exported_record, architecture=architecture, **common)
    simplified, simplified_record = folder / "simplified.onnx", folder / "simplified.json"
    simplify_model(exported, exported_record, simplified, simplified_record, **common)

    def variant(name: str, **settings: Any) -> tuple[Path, Path]:
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
                quantisation=QuantisationSettings(**settings),
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


def engine_builder(model: SimpleNamespace, folder: Path):
    """Return a function that builds engines of a prepared model for this machine, each once.

    The function takes engine, precision, batch size and options, and returns the engine file and its record.
    """
    from stagebench.engines import registry
    from stagebench.engines.build import BuildFiles, BuildSettings, build_engine
    from stagebench.host import identity
    from stagebench.records.cells import EngineRecord
    from stagebench.vocabulary import CHECKPOINT, Cell

    device_record = folder / "local.json"
    identity.probe("local", None, device_record)

    def build(name: str, precision: str, batch: int, **options) -> SimpleNamespace:
        out = folder / f"{name}-{precision}-{batch}.engine"
        onnx_variant = registry.get(name).variant(precision)
        source: tuple[Path | None, Path | None] = (None, None)
        if onnx_variant is not None:
            checkpoint = (model.weights, model.weights_record)
            source = checkpoint if onnx_variant == CHECKPOINT else model.variant(onnx_variant)
        settings = BuildSettings(
            cell=Cell(device="local", model="tiny", engine=name, precision=precision, batch=batch),
            module=None,
            architecture=model.architecture,
            preprocessing=model.preprocessing,
            options=options,
        )
        files = BuildFiles(*source, device_record, out, out.with_suffix(".json"), cache_folder=folder / "caches")
        build_engine(settings, files)
        return SimpleNamespace(file=out, path=files.record, record=EngineRecord.read(files.record))

    build.device_record = device_record
    return build
