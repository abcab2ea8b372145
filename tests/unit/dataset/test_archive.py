"""From an archive to class folders: the same each time, safe, counted, and never half done."""

import shutil
import tarfile
from types import SimpleNamespace

import pytest
from support.stages import archive_record, pack_archive

from stagebench.dataset import archive, space, tarstream
from stagebench.dataset.archive import extract_archive
from stagebench.dataset.manifest import calibration_rows, image_path, read_manifest, validation_rows
from stagebench.dataset.photographs import PHOTOGRAPHS
from stagebench.dataset.sample import make_archive
from stagebench.errors import StagebenchError
from stagebench.records.artifact import ChangedError
from stagebench.records.data import ArchiveRecord, DatasetRecord
from stagebench.records.io import digest


@pytest.fixture
def place(tmp_path):
    """Paths of an archive and of what is extracted from it."""
    return {
        "archive": tmp_path / "archive.tar",
        "archive_record": tmp_path / "archive.json",
        "images": tmp_path / "images",
        "manifest": tmp_path / "manifest.csv",
        "record": tmp_path / "dataset.json",
    }


def extract(place, **options):
    """Extract the archive as it is, which its record describes."""
    archive_record(place["archive_record"], place["archive"])
    extract_archive(**place, labels="sample", expected=32, **options)


@pytest.fixture(scope="session")
def jpegs(sample):
    """name -> bytes of the sample's own files."""
    rows = read_manifest(sample.manifest)
    return {row.path.rpartition("/")[2]: image_path(sample.manifest, row).read_bytes() for row in rows}


def test_the_sample_is_the_same_to_the_byte_each_time(sample, tmp_path):
    make_archive(tmp_path / "again.tar", tmp_path / "again.json", images=32)
    assert digest(tmp_path / "again.tar") == digest(sample.archive)


def test_the_default_has_enough_classes_and_windows(tmp_path):
    record = tmp_path / "archive.json"
    make_archive(tmp_path / "archive.tar", record, images=128)
    with tarfile.open(tmp_path / "archive.tar") as tar:
        names = tar.getnames()
    assert len(PHOTOGRAPHS) >= 16
    assert sum("_val_" in name for name in names) == 128
    assert sum("_fit_" in name for name in names) == 128
    assert len(ArchiveRecord.read(record).found.photographs) == len(PHOTOGRAPHS)


def test_extraction_gives_class_folders_and_a_manifest_outside(sample):
    rows = read_manifest(sample.manifest)
    assert len(rows) == 64
    assert not (sample.images / "manifest.csv").exists()
    for row in rows:
        path = image_path(sample.manifest, row)
        assert path.parent.name == row.wnid
        assert path.stat().st_size == row.bytes
        assert digest(path) == row.sha256
    assert {path for path in sample.images.rglob("*") if path.is_file()} == {
        image_path(sample.manifest, row) for row in rows
    }
    found = DatasetRecord.read(sample.record).found
    assert (found.images, found.fitting_images, found.classes) == (32, 32, 16)


def test_calibration_and_validation_share_no_image(sample):
    fitting = {row.path for row in calibration_rows(sample.manifest)}
    assert fitting.isdisjoint(row.path for row in validation_rows(sample.manifest, None))


def test_a_subset_is_fixed_and_balanced(sample):
    rows = validation_rows(sample.manifest, 16)
    assert rows == validation_rows(sample.manifest, 16)
    assert len({row.label for row in rows}) == 16
    with pytest.raises(StagebenchError, match="subset asks for 33"):
        validation_rows(sample.manifest, 33)


@pytest.mark.parametrize(
    ("extra", "words"),
    [
        (("../outside.JPEG", b"x"), "leads outside"),
        (("/absolute.JPEG", b"x"), "leads outside"),
        (("sample_val_00000001.JPEG", tarfile.SYMTYPE), "link"),
        (("sample_val_00000001.JPEG", tarfile.LNKTYPE), "link"),
        (("sample_val_00000001.JPEG", tarfile.CHRTYPE), "device"),
        (("stranger.JPEG", b"x"), "no image of this data set"),
    ],
    ids=["parent", "absolute", "symlink", "hardlink", "device", "stranger"],
)
def test_an_unsafe_member_is_refused_and_nothing_is_left(extra, words, place, jpegs):
    pack_archive(place["archive"], [*list(jpegs.items())[:3], extra])
    with pytest.raises(StagebenchError, match=words):
        extract(place)
    assert not place["images"].exists()
    assert not place["manifest"].exists()
    assert not list(place["images"].parent.glob("**/outside.JPEG"))


def test_a_member_too_large_for_an_image_is_refused(place, jpegs, monkeypatch):
    monkeypatch.setattr(tarstream, "MAX_MEMBER_BYTES", 1000)
    pack_archive(place["archive"], jpegs.items())
    with pytest.raises(StagebenchError, match=r"sample_fit_00000001\.JPEG has \d+ bytes: refused, too large"):
        extract(place)
    assert not place["images"].exists()


@pytest.mark.parametrize("place_of_damage", [0, 100, 130, 150])
def test_a_damaged_header_is_noticed(place_of_damage, place, jpegs):
    pack_archive(place["archive"], jpegs.items())
    data = bytearray(place["archive"].read_bytes())
    data[place_of_damage] ^= 0x01
    place["archive"].write_bytes(data)
    with pytest.raises(StagebenchError, match="not a tar archive, or damaged"):
        extract(place)


@pytest.mark.parametrize("form", [tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT])
def test_the_usual_kinds_of_tar_are_read(form, place, jpegs):
    pack_archive(place["archive"], [(f"./{'folder/' * 20}{name}", data) for name, data in jpegs.items()], form)
    extract(place)
    assert len(read_manifest(place["manifest"])) == 64


def test_missing_images_are_counted(place, jpegs):
    pack_archive(place["archive"], [item for item in jpegs.items() if item[0] != "sample_val_00000007.JPEG"])
    with pytest.raises(StagebenchError, match=r"holds 31 validation images.*expects 32"):
        extract(place)
    assert not place["images"].exists()


@pytest.mark.parametrize("kept", [100, 700, 5000])
def test_a_truncated_archive_does_not_pass_for_complete(kept, place, jpegs):
    pack_archive(place["archive"], jpegs.items())
    place["archive"].write_bytes(place["archive"].read_bytes()[:kept])
    with pytest.raises(StagebenchError, match=r"truncated|ends"):
        extract(place)
    assert not place["images"].exists()


def test_what_is_no_tar_is_said_to_be_none(place):
    place["archive"].write_bytes(b"<html>not found</html>" * 100)
    with pytest.raises(StagebenchError, match="not a tar archive"):
        extract(place)


def test_an_archive_that_changed_after_its_check_is_refused(place, jpegs):
    pack_archive(place["archive"], jpegs.items())
    archive_record(place["archive_record"], place["archive"])
    data = bytearray(place["archive"].read_bytes())
    data[2000] ^= 1
    place["archive"].write_bytes(data)
    with pytest.raises(ChangedError, match=r"archive\.tar: changed since its record was written .*; delete it and run"):
        extract_archive(**place, labels="sample", expected=32)
    assert not place["images"].exists()


def test_an_interrupted_extraction_starts_over(place, jpegs):
    leftover = place["images"].with_name("images.part")
    (leftover / "brick").mkdir(parents=True)
    (leftover / "brick" / "old.JPEG").write_bytes(b"left by a killed run")
    pack_archive(place["archive"], jpegs.items())
    extract(place)
    assert not leftover.exists()
    assert not list(place["images"].rglob("old.JPEG"))


def test_several_processes_leave_the_same_as_one(sample, place):
    place |= {"archive": sample.archive, "archive_record": sample.archive_record}
    extract(place, workers=2)
    assert place["manifest"].read_bytes() == sample.manifest.read_bytes()
    for row in read_manifest(place["manifest"]):
        assert digest(image_path(place["manifest"], row)) == row.sha256


def test_what_a_worker_meets_is_told_in_one_line(place, jpegs, monkeypatch):
    """Here a class folder that vanishes under it, as a full disk would: an error of the system."""
    pack_archive(place["archive"], jpegs.items())
    monkeypatch.setattr(archive, "check_image", lambda data: shutil.rmtree(place["images"].with_name("images.part")))
    with pytest.raises(StagebenchError, match=r"images\.part: No such file or directory"):
        extract(place)
    assert not place["images"].exists()


def test_a_disk_that_is_too_small_is_told_before_the_extraction(place, jpegs, monkeypatch):
    pack_archive(place["archive"], jpegs.items())
    monkeypatch.setattr(space.shutil, "disk_usage", lambda path: SimpleNamespace(free=1000))
    with pytest.raises(StagebenchError, match=r"the extraction needs .* free; make room, or name a folder"):
        extract(place)
    assert not place["images"].exists()
