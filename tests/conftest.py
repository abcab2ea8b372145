"""Fixtures of more than one folder: a small data set and a small model, each made once by the stages themselves."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import pytest
from common import ARCHITECTURE, IMAGES, PREPROCESSING

ROOT = Path(__file__).resolve().parent.parent


@pytest.fixture(scope="session")
def repository() -> Path:
    return ROOT


@pytest.fixture(scope="session")
def sample(tmp_path_factory) -> SimpleNamespace:
    """The embedded default's data set with 32 validation and 32 fitting images, extracted."""
    from stagebench.dataset.archive import extract_archive
    from stagebench.dataset.sample import make_archive

    folder = tmp_path_factory.mktemp("sample")
    made = SimpleNamespace(
        folder=folder,
        archive=folder / "archive.tar",
        archive_record=folder / "archive.json",
        images=folder / "images",
        manifest=folder / "manifest.csv",
        record=folder / "dataset.json",
    )
    make_archive(archive=made.archive, record=made.archive_record, images=IMAGES)
    extract_archive(
        archive=made.archive,
        archive_record=made.archive_record,
        images=made.images,
        manifest=made.manifest,
        record=made.record,
        labels="sample",
        expected=IMAGES,
    )
    return made


@pytest.fixture(scope="session")
def tiny_model(sample, tmp_path_factory) -> SimpleNamespace:
    """The small network with fitted weights, exported and simplified; `variant(name)` prepares one, once."""
    from stagebench.model.demo import fit_weights
    from stagebench.model.export import export_model
    from stagebench.model.simplify import simplify_model
    from stagebench.model.variants import prepare_variant

    folder = tmp_path_factory.mktemp("tiny")
    common = {"preprocessing": PREPROCESSING, "manifest": sample.manifest}
    weights, weights_record = folder / "tiny.pth", folder / "tiny.json"
    fit_weights(weights, weights_record, architecture=ARCHITECTURE, dataset_record=sample.record, **common)
    exported, exported_record = folder / "exported.onnx", folder / "exported.json"
    export_model(weights, weights_record, exported, exported_record, architecture=ARCHITECTURE, **common)
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
                architecture=ARCHITECTURE,
                **common,
            )
        return onnx, record

    return SimpleNamespace(
        folder=folder,
        architecture=ARCHITECTURE,
        preprocessing=PREPROCESSING,
        weights=weights,
        weights_record=weights_record,
        exported=exported,
        exported_record=exported_record,
        simplified=simplified,
        simplified_record=simplified_record,
        variant=variant,
    )
