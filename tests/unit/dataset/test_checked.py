"""Images are those of the manifest wherever they are read untimed; what is not is one line that names it."""

from __future__ import annotations

import os
import pickle
import shutil
from types import SimpleNamespace

import numpy as np
import pytest
from support.stages import PREPROCESSING

from stagebench.dataset.manifest import image_path, read_image, validation_rows
from stagebench.dataset.pixels import decode_pixels
from stagebench.errors import StagebenchError
from stagebench.measure.feeding import Files
from stagebench.model.batches import batches

OTHER = "other contents than its manifest describes"
GONE = "cannot be read: No such file or directory"


@pytest.fixture
def own(sample, tmp_path):
    """A copy of the data set whose images may be changed, with its rows."""
    folder = tmp_path / "data"
    shutil.copytree(sample.folder, folder)
    manifest = folder / sample.manifest.name
    return SimpleNamespace(manifest=manifest, record=folder / sample.record.name, rows=validation_rows(manifest, None))


def replaced(path, other):
    """Other pixels in a file of the same size and time of modification, which still is an image."""
    before, data = path.stat(), other.read_bytes()
    path.write_bytes(data + bytes(max(0, before.st_size - len(data))))
    os.truncate(path, before.st_size)
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert path.stat().st_size == before.st_size


def smallest_and_largest(own):
    rows = sorted(own.rows, key=lambda row: row.bytes)
    return rows[0], rows[-1]


def test_an_image_as_the_manifest_describes_it_is_read(own):
    row = own.rows[3]
    assert read_image(own.manifest, row) == image_path(own.manifest, row).read_bytes()


def test_an_image_with_other_contents_is_named_with_what_to_do(own):
    small, large = smallest_and_largest(own)
    replaced(image_path(own.manifest, large), image_path(own.manifest, small))
    with pytest.raises(StagebenchError) as error:
        read_image(own.manifest, large)
    path = image_path(own.manifest, large)
    assert str(error.value) == f"{path}: {OTHER}; delete {own.manifest} and run the target {own.manifest}"
    # It may come from a child process.
    passed = pickle.loads(pickle.dumps(error.value))
    assert (str(passed), passed.reason) == (str(error.value), OTHER)


def test_an_image_that_is_gone_is_named_with_what_to_do(own):
    path = image_path(own.manifest, own.rows[5])
    path.unlink()
    with pytest.raises(StagebenchError) as error:
        read_image(own.manifest, own.rows[5])
    assert str(error.value) == f"{path}: {GONE}; delete {own.manifest} and run the target {own.manifest}"


def test_a_copy_on_a_scratch_disk_has_no_manifest_to_delete(own):
    own.manifest.unlink()
    image_path(own.manifest, own.rows[0]).unlink()
    with pytest.raises(StagebenchError, match=f"{GONE}; run again$"):
        read_image(own.manifest, own.rows[0])


def test_decoding_names_all_images_that_are_not_those_of_the_manifest(own, tmp_path):
    small, large = smallest_and_largest(own)
    gone = next(row for row in own.rows if row not in (small, large))
    replaced(image_path(own.manifest, large), image_path(own.manifest, small))
    image_path(own.manifest, gone).unlink()
    out = {"pixels": tmp_path / "pixels.npy", "record": tmp_path / "pixels.json"}
    with pytest.raises(StagebenchError) as error:
        decode_pixels(own.manifest, own.record, **out, preprocessing=PREPROCESSING, subset=None, threads=2)
    text = str(error.value)
    assert "\n" not in text
    assert "2 images cannot be decoded" in text
    assert f"{image_path(own.manifest, large)} ({OTHER})" in text
    assert f"{image_path(own.manifest, gone)} ({GONE})" in text
    assert text.endswith(f"put them right, then delete {own.manifest} and run the target {own.manifest}")
    assert not out["pixels"].exists()


@pytest.mark.parametrize("how", ["replaced", "removed"])
def test_fitting_comparing_and_calibrating_check_their_images(own, how):
    small, large = smallest_and_largest(own)
    path = image_path(own.manifest, large)
    if how == "replaced":
        replaced(path, image_path(own.manifest, small))
    else:
        path.unlink()
    with pytest.raises(StagebenchError) as error:
        list(batches(own.manifest, own.rows, PREPROCESSING, 8))
    assert (
        str(error.value)
        == f"{path}: {OTHER if how == 'replaced' else GONE}; delete {own.manifest} and run the target {own.manifest}"
    )


def test_a_timed_pass_names_an_image_that_is_gone_in_one_line(own):
    path = image_path(own.manifest, own.rows[1])
    path.unlink()
    crop = PREPROCESSING.crop
    with pytest.raises(StagebenchError) as error:
        Files(own.manifest, own.rows, PREPROCESSING).fill(0, np.empty((2, crop, crop, 3), np.uint8))
    reason = "cannot be read as an image (No such file or directory)"
    assert str(error.value) == f"{path}: {reason}; delete {own.manifest} and run the target {own.manifest}"
