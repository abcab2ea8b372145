"""Images and pixels on the machine's own disk."""

from __future__ import annotations

import shutil

import numpy as np
import pytest

from stagebench.dataset.manifest import validation_rows
from stagebench.errors import StagebenchError
from stagebench.measure import staging


@pytest.fixture
def pixels(tmp_path):
    path = tmp_path / "abc.npy"
    np.save(path, np.arange(1000, dtype=np.uint8))
    return path


@pytest.fixture
def scratch(tmp_path, monkeypatch):
    folder = tmp_path / "scratch"
    folder.mkdir()
    monkeypatch.setenv("SCRATCH_OF_TEST", str(folder))
    return "$SCRATCH_OF_TEST"


def copied(place, rows):
    return [(place.manifest.parent / row.path).read_bytes() for row in rows]


def test_images_and_pixels_are_copied_once(sample, pixels, scratch, monkeypatch):
    rows = validation_rows(sample.manifest, None)
    place = staging.stage(sample.manifest, rows, pixels, scratch)
    assert copied(place, rows) == [(sample.folder / row.path).read_bytes() for row in rows]
    assert place.pixels.read_bytes() == pixels.read_bytes()
    described = place.describe()
    assert described.staged is True
    assert described.folder == str(place.manifest.parent)
    assert described.file_system != "unknown"

    monkeypatch.setattr(staging, "_copy_image", lambda *arguments: pytest.fail("copied again"))
    monkeypatch.setattr(staging, "_copy_file", lambda *arguments: pytest.fail("copied again"))
    assert staging.stage(sample.manifest, rows, pixels, scratch).manifest == place.manifest


def test_what_was_cut_off_or_cleared_is_copied_anew(sample, pixels, scratch):
    rows = validation_rows(sample.manifest, None)
    place = staging.stage(sample.manifest, rows, pixels, scratch)
    (place.manifest.parent / rows[0].path).unlink()
    (place.manifest.parent / rows[1].path).write_bytes(b"half an im")
    place.pixels.unlink()
    again = staging.stage(sample.manifest, rows, pixels, scratch)
    assert copied(again, rows) == [(sample.folder / row.path).read_bytes() for row in rows]
    assert again.pixels.exists()


def test_an_image_that_differs_from_the_manifest_is_refused(sample, scratch, tmp_path):
    folder = tmp_path / "data"
    shutil.copytree(sample.folder, folder)
    manifest = folder / sample.manifest.name
    rows = validation_rows(manifest, None)
    broken = folder / rows[0].path
    content = bytearray(broken.read_bytes())
    content[-10] ^= 1
    broken.write_bytes(content)
    with pytest.raises(StagebenchError, match="other contents than its manifest describes"):
        staging.stage(manifest, rows, None, scratch)


def test_a_folder_that_no_node_has_is_named(sample):
    rows = validation_rows(sample.manifest, None)
    with pytest.raises(StagebenchError, match=r"local_scratch: '\$NO_SUCH_VARIABLE/x' names no folder"):
        staging.stage(sample.manifest, rows, None, "$NO_SUCH_VARIABLE/x")


def test_a_disk_that_is_too_small_is_told_before_anything_is_copied(sample, scratch, monkeypatch):
    rows = validation_rows(sample.manifest, None)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: shutil._ntuple_diskusage(100, 90, 10))
    with pytest.raises(StagebenchError, match=r"staging needs .* GB, but .* has 0.0 GB free"):
        staging.stage(sample.manifest, rows, None, scratch)


def test_without_scratch_the_record_tells_the_workflow_s_own_folder(sample):
    described = staging.in_place(sample.manifest, None).describe()
    assert described.staged is False
    assert described.folder == sample.folder.as_posix()
