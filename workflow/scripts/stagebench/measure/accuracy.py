"""From logits to predictions and accuracies."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

TOP = 5


def top5(logits: NDArray[np.float32]) -> tuple[NDArray[np.int16], NDArray[np.float32]]:
    """Return the five classes with the highest logits and those logits, best first.

    Args:
        logits: float32 (images, classes), at least five classes.

    Returns:
        Classes, int16 (images, 5), and logits, float32 (images, 5). Of equal logits the lower class comes first.
    """
    chosen = np.argpartition(-logits, TOP - 1, axis=1)[:, :TOP]
    values = np.take_along_axis(logits, chosen, axis=1)
    order = np.lexsort((chosen, -values), axis=1)
    classes = np.take_along_axis(chosen, order, axis=1).astype(np.int16)
    return classes, np.take_along_axis(values, order, axis=1)


def accuracy(classes: NDArray[np.int16], labels: NDArray[np.int16], within: int) -> float:
    """Return the share of images, in percent, whose label is among the first `within` of their predicted classes."""
    hits = (classes[:, :within] == labels[:, None]).any(axis=1)
    return 100.0 * float(hits.mean())


def unsteady(passes: Sequence[NDArray[np.int16]]) -> int:
    """Return for how many images the predicted classes differ between passes.

    Args:
        passes: int16 (images, 5) each; those after the first may have run only the first images of the set.
    """
    first = passes[0]
    differs = np.zeros(len(first), bool)
    for other in passes[1:]:
        differs[: len(other)] |= (other != first[: len(other)]).any(axis=1)
    return int(differs.sum())
