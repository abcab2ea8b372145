"""ImageNet's labels, its development kit, and folders of images that are extracted already."""

import hashlib
import io
import os
import re
import tarfile
from collections import Counter
from importlib import metadata

import numpy as np
import pytest

from stagebench.dataset.folder import link_folder, listing
from stagebench.dataset.labels import imagenet
from stagebench.dataset.labels.kinds import resolve
from stagebench.dataset.manifest import (
    ManifestRow,
    calibration_rows,
    read_manifest,
    validation_rows,
    write_manifest,
)
from stagebench.errors import StagebenchError
from stagebench.records.data import DatasetRecord
from stagebench.records.io import digest

# The lists that results were made with: digests of their paths. They may never change.
SUBSET = "267ce084fb988cb4"
CALIBRATION = "0ae2bc63cd8dc8bb"


def test_there_are_fifty_of_each_class():
    known = imagenet.load()
    assert set(Counter(known.labels).values()) == {50}
    assert known.labels[:10] == (65, 970, 230, 809, 516, 57, 334, 415, 674, 332)
    assert known.wnids[0] == "n01440764"
    assert list(known.wnids) == sorted(known.wnids)


def test_the_labels_are_those_of_tensorflow_datasets():
    assert metadata.version("tensorflow-datasets") == "4.9.10"
    folder = "tensorflow_datasets/datasets/imagenet2012"
    files = {str(file): file for file in metadata.files("tensorflow-datasets")}
    wnids, truth = (files[f"{folder}/{name}.txt"].read_text().split() for name in ("labels", "validation_labels"))
    known = imagenet.load()
    assert list(known.wnids) == wnids
    assert [known.wnids[label] for label in known.labels] == truth


@pytest.mark.parametrize(
    "name", ["ILSVRC2012_val_00050001.JPEG", "ILSVRC2012_val_00000000.JPEG", "ILSVRC2012_test_00000001.JPEG", "x.JPEG"]
)
def test_strangers_have_no_label(name):
    assert resolve("imagenet").of(name) is None


def devkit(path, labels, wnids):
    """An archive of the development kit's shape: ids in an order of their own, leaf classes before inner ones."""
    from scipy.io import savemat

    order = list(np.random.default_rng(0).permutation(len(wnids)))
    kind = [("ILSVRC2012_ID", "i4"), ("WNID", "U9"), ("words", "U20"), ("gloss", "U20"), ("num_children", "i4")]
    leaves = [(rank + 1, wnids[label], "", "", 0) for rank, label in enumerate(order)]
    synsets = np.array([*leaves, (len(wnids) + 1, "n00000001", "", "", 3)], dtype=kind)
    buffer = io.BytesIO()
    savemat(buffer, {"synsets": synsets})
    number = {label: rank + 1 for rank, label in enumerate(order)}
    truth = "".join(f"{number[label]}\n" for label in labels).encode()
    with tarfile.open(path, "w:gz") as tar:
        for name, data in (
            ("data/meta.mat", buffer.getvalue()),
            ("data/ILSVRC2012_validation_ground_truth.txt", truth),
        ):
            entry = tarfile.TarInfo(f"ILSVRC2012_devkit_t12/{name}")
            entry.size = len(data)
            tar.addfile(entry, io.BytesIO(data))
    return path


def test_a_development_kit_that_agrees_is_accepted(tmp_path, monkeypatch, caplog):
    known = imagenet.load()
    kit = devkit(tmp_path / "kit.tar.gz", known.labels, known.wnids)
    assert imagenet.read_devkit(kit) == known
    resolve("imagenet", str(kit))
    assert f"agrees with the labels; its MD5 is {digest(kit, 'md5')}" in caplog.text
    caplog.clear()
    monkeypatch.setattr(imagenet, "DEVKIT_MD5", digest(kit, "md5"))
    resolve("imagenet", str(kit))
    assert not caplog.text


def test_a_development_kit_with_another_class_is_refused(tmp_path):
    known = imagenet.load()
    kit = devkit(tmp_path / "kit.tar.gz", known.labels, (*known.wnids[:-1], "n99999999"))
    with pytest.raises(StagebenchError, match="n99999999, which ImageNet's 1000 classes have not"):
        resolve("imagenet", str(kit))


def test_a_development_kit_that_differs_is_refused_with_the_image(tmp_path):
    known = imagenet.load()
    labels = list(known.labels)
    labels[41] = (labels[41] + 1) % 1000
    kit = devkit(tmp_path / "kit.tar.gz", labels, known.wnids)
    with pytest.raises(StagebenchError, match="image 42 has another class"):
        resolve("imagenet", str(kit))


def test_what_is_no_development_kit_is_named(tmp_path):
    (tmp_path / "kit.tar.gz").write_bytes(b"no archive")
    with pytest.raises(StagebenchError, match="not ImageNet's development kit"):
        resolve("imagenet", str(tmp_path / "kit.tar.gz"))


@pytest.fixture
def place(tmp_path):
    return {"images": tmp_path / "images", "manifest": tmp_path / "manifest.csv", "record": tmp_path / "dataset.json"}


def given(sample, folder, form):
    """The sample's images as a user might have them: flat, or in class folders."""
    for file in sorted(sample.images.rglob("*.JPEG")):
        target = folder / file.name if form == "flat" else folder / file.parent.name / file.name
        target.parent.mkdir(parents=True, exist_ok=True)
        os.link(file, target)
    return folder


def link(folder, place, expected=32):
    link_folder(folder, **place, labels="sample", devkit=None, expected=expected)


@pytest.mark.parametrize("form", ["flat", "classes"])
def test_a_folder_is_linked_and_never_written_to(form, sample, tmp_path, place):
    folder = given(sample, tmp_path / "mine", form)
    before = sorted((path, path.stat().st_mtime_ns) for path in folder.rglob("*"))
    link(folder, place)
    assert sorted((path, path.stat().st_mtime_ns) for path in folder.rglob("*")) == before
    assert read_manifest(place["manifest"]) == read_manifest(sample.manifest)
    for row in read_manifest(place["manifest"]):
        path = place["manifest"].parent / row.path
        assert path.is_symlink()
        assert digest(path) == row.sha256
    assert DatasetRecord.read(place["record"]).inputs["folder"].path == str(folder)


@pytest.mark.parametrize("form", ["flat", "classes"])
@pytest.mark.parametrize(("below", "words"), [("val", "one level"), ("Data/CLS-LOC/val", "3 levels")])
def test_a_folder_too_high_is_refused_with_the_right_path(below, words, form, sample, tmp_path, place):
    right = given(sample, tmp_path / "mine" / below, form)
    for wnid in ("brick", "camera"):  # training images have class folders of the same names
        (right.parent / "train" / wnid).mkdir(parents=True)
        (right.parent / "train" / wnid / f"{wnid}_1.JPEG").write_bytes(b"x")
    with pytest.raises(StagebenchError, match=f"{words} too high; name {re.escape(str(right))} in"):
        link(tmp_path / "mine", place)
    assert not place["images"].exists()
    with pytest.raises(StagebenchError, match=r"train: holds no validation images .*it holds brick, camera"):
        link(right.parent / "train", place)


def test_an_image_in_the_wrong_class_is_refused(sample, tmp_path, place):
    folder = given(sample, tmp_path / "mine", "classes")
    (folder / "brick" / "sample_val_00000002.JPEG").rename(folder / "camera" / "sample_val_00000002.JPEG")
    with pytest.raises(StagebenchError, match="its class is brick, but it lies in camera"):
        link(folder, place)


def test_broken_and_missing_images_of_a_folder_are_told(sample, tmp_path, place):
    folder = given(sample, tmp_path / "mine", "flat")
    (folder / "sample_val_00000005.JPEG").unlink()
    with pytest.raises(StagebenchError, match="holds 31 validation images"):
        link(folder, place)
    for name in ("sample_val_00000001.JPEG", "sample_val_00000002.JPEG"):
        (folder / name).unlink()
        (folder / name).write_bytes(b"")
    with pytest.raises(StagebenchError, match=r"2 images are broken: .*00000001.*; .*00000002"):
        link(folder, place)
    assert not place["images"].exists()


@pytest.mark.parametrize("form", ["flat", "classes"])
def test_a_listing_changes_with_every_file_of_a_folder_and_with_nothing_else(form, sample, tmp_path):
    folder = given(sample, tmp_path / "mine", form)
    image = next(folder.rglob("sample_val_00000005.JPEG"))
    found, before = image.stat(), listing(folder)
    (folder / ".hidden").write_bytes(b"x")
    assert listing(folder) == before
    os.utime(image, ns=(found.st_atime_ns, found.st_mtime_ns + 1))
    assert listing(folder) != before
    os.utime(image, ns=(found.st_atime_ns, found.st_mtime_ns))
    assert listing(folder) == before
    aside = image.rename(tmp_path / "aside")
    assert listing(folder) != before
    image.symlink_to(aside)  # counts as what it leads to
    assert listing(folder) == before
    aside.unlink()
    assert listing(folder) != before


def test_an_empty_folder_is_named(tmp_path, place):
    (tmp_path / "mine").mkdir()
    with pytest.raises(StagebenchError, match="it holds nothing"):
        link(tmp_path / "mine", place)


@pytest.fixture(scope="module")
def validation_set(tmp_path_factory):
    """The manifest of ImageNet's validation set, without the images."""
    known = imagenet.load()
    manifest = tmp_path_factory.mktemp("imagenet") / "manifest.csv"
    write_manifest(
        manifest,
        (
            ManifestRow(f"images/{wnid}/ILSVRC2012_val_{number:08d}.JPEG", label, wnid, "val", 1, "0" * 64)
            for number, label in enumerate(known.labels, 1)
            for wnid in [known.wnids[label]]
        ),
    )
    return manifest


def digest_of(rows):
    return hashlib.sha256("\n".join(row.path for row in rows).encode()).hexdigest()[:16]


def test_subsets_are_fixed_and_balanced_over_the_classes(validation_set):
    subset = validation_rows(validation_set, 5000)
    assert set(Counter(row.label for row in subset).values()) == {5}
    assert len(Counter(row.label for row in validation_rows(validation_set, 1500))) == 1000
    smaller = validation_rows(validation_set, 1000)
    assert {row.path for row in smaller} < {row.path for row in subset}
    assert digest_of(smaller) == SUBSET


def test_the_calibration_list_is_fixed_and_comes_from_the_validation_images(validation_set):
    rows = calibration_rows(validation_set)
    assert len(rows) == 500
    assert len({row.label for row in rows}) == 500
    assert digest_of(rows) == CALIBRATION
    assert len(validation_rows(validation_set, None)) == 50_000  # excluded from nothing
