"""Labels: from the name of an image file to its split, its class folder and its label."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from stagebench.dataset.labels import imagenet
from stagebench.dataset.manifest import Label, Split
from stagebench.dataset.photographs import PHOTOGRAPHS
from stagebench.errors import StagebenchError

_IMAGENET_NAME = re.compile(r"ILSVRC2012_val_(\d{8})\.JPEG")
_SAMPLE_NAME = re.compile(r"sample_(val|fit)_(\d{8})\.JPEG")


@dataclass(frozen=True)
class Labels:
    """The labels of a data set's files.

    `wnids` are the names of the classes in the order of their labels. `of(name)` is the label of the file `name`
    (without folders), None for a name that the data set does not know. `per_class(images)` counts the validation
    images that each label has in a set of `images`; None where that cannot be said beforehand.
    """

    wnids: tuple[str, ...]
    of: Callable[[str], Label | None]
    per_class: Callable[[int], Counter[int] | None]


def resolve(kind: str, devkit: str | None = None) -> Labels:
    """Return the labels of a kind: "sample" or "imagenet".

    Args:
        devkit: ImageNet's development kit, which has to say the same as the labels of this repository.

    Raises:
        StagebenchError: there is no such kind, or the development kit says something else.
    """
    if kind == "sample":
        return _sample()
    if kind == "imagenet":
        if devkit is not None:
            imagenet.require_agreement(Path(devkit).expanduser())
        return _imagenet()
    raise StagebenchError(f"datasets.*.labels: unknown kind of labels {kind!r}: there are imagenet, sample")


def _imagenet() -> Labels:
    known = imagenet.load()
    classes = [Label("val", wnid, label) for label, wnid in enumerate(known.wnids)]

    def of(name: str) -> Label | None:
        match = _IMAGENET_NAME.fullmatch(name)
        number = int(match[1]) if match else 0
        return classes[known.labels[number - 1]] if 1 <= number <= imagenet.IMAGES else None

    def per_class(images: int) -> Counter[int] | None:
        return Counter(known.labels) if images == imagenet.IMAGES else None

    return Labels(known.wnids, of, per_class)


def sample_name(split: Split, number: int) -> str:
    """Return the file name of the `number`-th image (from 1) of a split of `sample`."""
    return f"sample_{split}_{number:08d}.JPEG"


def sample_label(number: int) -> int:
    """Return the label of the `number`-th image (from 1) of either split of `sample`: the classes take turns."""
    return (number - 1) % len(PHOTOGRAPHS)


def _sample() -> Labels:
    wnids = tuple(photograph.name for photograph in PHOTOGRAPHS)

    def of(name: str) -> Label | None:
        match = _SAMPLE_NAME.fullmatch(name)
        if match is None or int(match[2]) == 0:
            return None
        label = sample_label(int(match[2]))
        return Label("fit" if match[1] == "fit" else "val", wnids[label], label)

    def per_class(images: int) -> Counter[int]:
        return Counter(sample_label(number) for number in range(1, images + 1))

    return Labels(wnids, of, per_class)
