"""Weights for the embedded default: a true network whose last layer is fitted to the fitting images.

The convolutions keep their seeded random weights; batch norm takes its statistics from the fitting images; the last
layer is solved in closed form on the features that come out (ridge regression). Random features of a deep network
distinguish photographs well enough for an accuracy that a wrong computation would visibly lower.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor, nn
from torchvision.models import resnet

from stagebench.dataset.manifest import read_manifest
from stagebench.errors import StagebenchError
from stagebench.model.architecture import Classifier, make_module
from stagebench.model.batches import batches
from stagebench.preprocessing import Preprocessing
from stagebench.records.data import DatasetRecord
from stagebench.records.envelope import FileEntry, Stopwatch, passed_on
from stagebench.records.failures import failure_recorded
from stagebench.records.io import replacing, versions
from stagebench.records.models import Weights, WeightsRecord

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

SEED = 0
_BRANCH = 0.5
# Weight of the ridge, as a share of the mean squared feature norm. Held-out accuracy hardly differs from 0.01 to 0.3;
# larger ridges give smaller weights, which carry less quantisation noise to the logits.
_RIDGE = 0.1
# The logits of the present classes of an image add up to one, since each fitted target does: the highest of them is
# positive, and a class at this value never wins.
_ABSENT = -1.0


def fit_weights(
    weights: Path,
    record: Path,
    *,
    architecture: str,
    preprocessing: Preprocessing,
    manifest: Path,
    dataset_record: Path,
) -> None:
    """Write the state dictionary of a network fitted to the fitting images of a data set.

    If the data set has no fitting images, or the architecture no last linear layer, the record has the state "failed".

    Raises:
        ChangedError: an input is not what its record describes.
    """
    watch = Stopwatch()
    dataset = DatasetRecord.read(dataset_record)
    outputs = {"weights": weights}
    if passed_on(WeightsRecord, record, watch, sources=[dataset], outputs=outputs):
        return
    dataset.artifact("manifest", manifest).verify()
    with failure_recorded(WeightsRecord, record, watch, outputs=outputs):
        rows = [row for row in read_manifest(manifest) if row.split == "fit"]
        if not rows:
            raise StagebenchError(
                f"{manifest}: no fitting images; demo weights need a data set that has some, like sample"
            )
        torch.manual_seed(SEED)
        module = make_module(architecture)
        _soften_residuals(module)
        last = _last_linear(module, architecture)
        images = torch.from_numpy(next(batches(manifest, rows, preprocessing, len(rows))))
        classifier = Classifier(module.to(memory_format=torch.channels_last), preprocessing)
        features = _settle_batch_norms(classifier, last, images)
        _solve(last, features, np.array([row.label for row in rows]))
        state = {name: value.contiguous() for name, value in module.state_dict().items()}
        with replacing(weights) as part:
            torch.save(state, part)
        WeightsRecord.make(
            watch,
            result=Weights(
                fetched=False,
                source=f"seed {SEED}, fitted to {len(rows)} images of {manifest.parent.name}",
                architecture=architecture,
                fitting_images=len(rows),
            ),
            inputs={"manifest": dataset.outputs["manifest"]},
            outputs={"weights": FileEntry.of(weights)},
            versions=versions("torch", "torchvision", "numpy"),
        ).write(record)


def _last_linear(module: nn.Module, architecture: str) -> nn.Linear:
    linear = [child for child in module.modules() if isinstance(child, nn.Linear)]
    if not linear:
        raise StagebenchError(f"architecture {architecture!r}: no linear layer to fit; demo weights need a last one")
    return linear[-1]


def _soften_residuals(module: nn.Module) -> None:
    """Let the branches of torchvision's residual blocks start at half their weight.

    At full weight the random branches drown what the shortcut carries from layer to layer, and the rounding noise of
    reduced precision grows with depth until it changes classes.
    """
    for block in module.modules():
        if isinstance(block, resnet.BasicBlock):
            nn.init.constant_(block.bn2.weight, _BRANCH)
        elif isinstance(block, resnet.Bottleneck):
            nn.init.constant_(block.bn3.weight, _BRANCH)


@torch.no_grad()
def _settle_batch_norms(classifier: Classifier, last: nn.Linear, images: Tensor) -> NDArray[np.float64]:
    """Give every batch norm the statistics of all images, and return what then goes into the last layer.

    In training mode a batch norm computes with its batch's own statistics and, with a momentum of one, keeps just
    these. So one pass over all images as one batch gives both the statistics and the features.

    Returns:
        Features, float64 (images, features).
    """
    for child in classifier.modules():
        if isinstance(child, nn.modules.batchnorm._BatchNorm):
            child.momentum = 1.0
    found: list[Tensor] = []
    hook = last.register_forward_pre_hook(lambda _, inputs: found.append(inputs[0].clone()))
    classifier.train()
    classifier(images)
    classifier.eval()
    hook.remove()
    return found[0].double().numpy()


def _solve(last: nn.Linear, features: NDArray[np.float64], labels: NDArray[np.int64]) -> None:
    """Set the last layer to the ridge regression of one-hot targets on centred features.

    Solved in its dual form, whose matrix is as large as there are images (Saunders et al., ICML 1998).
    """
    classes = np.unique(labels)
    targets = (labels[:, None] == classes).astype(np.float64)
    middle, base = features.mean(axis=0), targets.mean(axis=0)
    centred = features - middle
    gram = centred @ centred.T
    ridge = _RIDGE * np.trace(gram) / len(gram)
    coefficients = centred.T @ np.linalg.solve(gram + ridge * np.eye(len(gram)), targets - base)
    weight = np.zeros((last.out_features, last.in_features))
    bias = np.full(last.out_features, _ABSENT)
    weight[classes] = coefficients.T
    bias[classes] = base - middle @ coefficients
    with torch.no_grad():
        last.weight.copy_(torch.from_numpy(weight))
        last.bias.copy_(torch.from_numpy(bias))
