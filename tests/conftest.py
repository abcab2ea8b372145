"""Fixtures of more than one folder: a small data set and a small model, each made once by the stages themselves."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import pytest
from support.stages import ARCHITECTURE, IMAGES, prepared_model

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
    """The small network, as `prepared_model` leaves it."""
    return prepared_model(ARCHITECTURE, sample, tmp_path_factory.mktemp("tiny"))
