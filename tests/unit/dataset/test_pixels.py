"""The file of decoded pixels: mapped, resumed from what can be trusted, and made only where there is room."""

from types import SimpleNamespace

import numpy as np
import pytest
from support.stages import PREPROCESSING

from stagebench.dataset import pixels as step
from stagebench.dataset import space
from stagebench.dataset.decode.images import decode_image
from stagebench.dataset.manifest import image_path, validation_rows
from stagebench.errors import StagebenchError
from stagebench.preprocessing import Preprocessing
from stagebench.records.data import PixelsRecord
from stagebench.records.io import digest, part_of

BLOCK = 8


class Killed(BaseException):
    """Stands for a signal: nothing catches it."""


@pytest.fixture
def decode(sample, tmp_path, monkeypatch):
    """Run the step; `decode.count` images were decoded by it, and it dies at image `decode.dies_at`."""
    monkeypatch.setattr(step, "_BLOCK", BLOCK)
    state = SimpleNamespace(count=0, dies_at=0, out=tmp_path / "pixels.npy", record=tmp_path / "pixels.json")

    def counted(*arguments, **options):
        state.count += 1
        if state.count == state.dies_at:
            raise Killed
        return decode_image(*arguments, **options)

    def run(dies_at=0, subset=None, **changes):
        state.count, state.dies_at = 0, dies_at
        preprocessing = PREPROCESSING.model_copy(update=changes)
        places = {"pixels": state.out, "record": state.record}
        step.decode_pixels(
            sample.manifest, sample.record, **places, preprocessing=preprocessing, subset=subset, threads=2
        )

    monkeypatch.setattr(step, "decode_image", counted)
    state.run = run
    return state


def test_every_validation_image_lies_in_its_place(sample, decode):
    decode.run()
    found = step.open_pixels(decode.out)
    rows = validation_rows(sample.manifest, None)
    assert isinstance(found, np.memmap)
    assert (found.shape, found.dtype) == ((32, 224, 224, 3), np.uint8)
    for row, image in zip(rows, found, strict=True):
        data = image_path(sample.manifest, row).read_bytes()
        assert np.array_equal(image, decode_image(data, Preprocessing()))
    assert PixelsRecord.read(decode.record).outputs["pixels"].sha256 == digest(decode.out)


def test_a_killed_step_goes_on(decode):
    with pytest.raises(Killed):
        decode.run(dies_at=20)
    assert not decode.out.exists()
    decode.run()
    assert 0 < decode.count <= 32 - BLOCK
    resumed = digest(decode.out)
    decode.run()
    assert decode.count == 32
    assert digest(decode.out) == resumed


@pytest.mark.parametrize("change", [{"subset": 16}, {"resize": 240}], ids=["subset", "recipe"])
def test_what_was_begun_for_something_else_is_not_used(decode, change):
    with pytest.raises(Killed):
        decode.run(dies_at=30)
    decode.run(**change)
    assert decode.count == change.get("subset", 32)


def test_bytes_that_the_journal_does_not_confirm_are_decoded_again(decode):
    with pytest.raises(Killed):
        decode.run(dies_at=30)
    part = part_of(decode.out)
    with part.open("r+b") as file:
        file.seek(128 + BLOCK * 224 * 224 * 3 + 7)  # in the second block
        file.write(b"\xff\x00\xff")
    decode.run()
    assert decode.count == 32 - BLOCK
    kept = digest(decode.out)
    decode.run()
    assert digest(decode.out) == kept


def test_a_disk_that_is_too_small_is_told_before_anything_is_decoded(decode, monkeypatch):
    monkeypatch.setattr(space.shutil, "disk_usage", lambda path: SimpleNamespace(free=1_000_000))
    with pytest.raises(StagebenchError, match=r"make room, or set datasets\.\*\.pixels to false"):
        decode.run()
    assert decode.count == 0
