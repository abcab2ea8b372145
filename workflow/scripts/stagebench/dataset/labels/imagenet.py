"""The labels of ImageNet's validation set (ILSVRC2012): wnids in class order, and the class of each image.

They are facts of the data set, kept next to this file as compressed text: a line of wnids, a line of labels. The tests
compare them with tensorflow-datasets; `read_devkit` reads ImageNet's own development kit for comparison.
"""

from __future__ import annotations

import io
import logging
import lzma
import tarfile
from functools import cache
from pathlib import Path
from typing import NamedTuple

from stagebench.errors import StagebenchError
from stagebench.records.io import digest

_log = logging.getLogger(__name__)

RESOURCE = Path(__file__).with_name("imagenet_labels.txt.xz")
IMAGES = 50_000
CLASSES = 1000
#: MD5 of ILSVRC2012_devkit_t12.tar.gz, as ImageNet and torchvision state it.
DEVKIT_MD5 = "fa75699e90414af021442c21a62c3abf"
_META = "data/meta.mat"
_TRUTH = "data/ILSVRC2012_validation_ground_truth.txt"


class ImageNetLabels(NamedTuple):
    """Class names in the order of the labels, and the label of each validation image in the order of its number."""

    wnids: tuple[str, ...]
    labels: tuple[int, ...]


@cache
def load() -> ImageNetLabels:
    """Return the labels that lie in this repository.

    Raises:
        StagebenchError: the file is not what it should be.
    """
    try:
        first, second = lzma.decompress(RESOURCE.read_bytes()).decode().splitlines()
        found = ImageNetLabels(tuple(first.split()), tuple(map(int, second.split())))
    except (OSError, lzma.LZMAError, ValueError) as error:
        raise StagebenchError(f"{RESOURCE}: damaged ({error}); check this file out again") from None
    if len(found.wnids) != CLASSES or len(found.labels) != IMAGES:
        raise StagebenchError(f"{RESOURCE}: incomplete; check this file out again")
    return found


def read_devkit(archive: Path) -> ImageNetLabels:
    """Return the labels of ImageNet's development kit (ILSVRC2012_devkit_t12.tar.gz).

    The kit numbers the 1000 leaf classes from 1 in an order of its own; labels are numbered by sorted wnid here, as
    torchvision's weights are.

    Raises:
        StagebenchError: the archive is not the development kit.
    """
    from scipy.io import loadmat

    try:
        with tarfile.open(archive) as tar:
            members = {member.name.partition("/")[2]: member for member in tar.getmembers() if member.isfile()}
            meta, truth = (tar.extractfile(members[name]) for name in (_META, _TRUTH))
            assert meta is not None
            assert truth is not None
            synsets = loadmat(io.BytesIO(meta.read()), squeeze_me=True)["synsets"]
            numbers = [int(line) for line in truth.read().split()]
        leaves = {int(entry["ILSVRC2012_ID"]): str(entry["WNID"]) for entry in synsets if entry["num_children"] == 0}
        wnids = tuple(sorted(leaves.values()))
        label = {wnid: index for index, wnid in enumerate(wnids)}
        return ImageNetLabels(wnids, tuple(label[leaves[number]] for number in numbers))
    except (OSError, tarfile.TarError, KeyError, ValueError, AssertionError) as error:
        raise StagebenchError(
            f"{archive}: not ImageNet's development kit ({type(error).__name__}: {error}); name "
            f"ILSVRC2012_devkit_t12.tar.gz, MD5 {DEVKIT_MD5}"
        ) from None


def require_agreement(archive: Path) -> None:
    """Raise unless a development kit agrees with the labels of this repository.

    A repacked kit, with another MD5 than ImageNet's own, is accepted with a warning.

    Raises:
        StagebenchError: it says something else; the text names the first image that differs.
    """
    theirs, ours = read_devkit(archive), load()
    difference = _difference(theirs, ours)
    found = digest(archive, "md5")
    other = "" if found == DEVKIT_MD5 else f"; its MD5 is {found}, that of ImageNet's own kit is {DEVKIT_MD5}"
    if difference:
        raise StagebenchError(f"{archive}: {difference}; is it another kit?{other}")
    if other:
        _log.warning("%s: agrees with the labels%s", archive, other)


def _difference(theirs: ImageNetLabels, ours: ImageNetLabels) -> str | None:
    """Return where two sets of labels differ; None where they agree."""
    if theirs.wnids != ours.wnids:
        strangers = sorted(set(theirs.wnids) - set(ours.wnids)) or [f"{len(theirs.wnids)} classes"]
        return f"has {strangers[0]}, which ImageNet's 1000 classes have not"
    if len(theirs.labels) != len(ours.labels):
        return f"has {len(theirs.labels)} labels"
    for number, (a, b) in enumerate(zip(theirs.labels, ours.labels, strict=True), 1):
        if a != b:
            return f"image {number} has another class"
    return None
