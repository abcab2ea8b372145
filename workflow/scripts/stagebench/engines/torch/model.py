"""From torch's engine file to a module that is ready to run, wherever it runs."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import torch
from torch import nn
from torch.fx.experimental.optimization import fuse

from stagebench.model.architecture import Classifier, make_module
from stagebench.records.cells import TorchCheckpoint
from stagebench.vocabulary import precision


def load_classifier(engine_file: Path) -> tuple[Classifier, TorchCheckpoint]:
    """Return the classifier in evaluation mode, batch norms folded and channels last, and what its file belongs to.

    The network is in the precision's type; the normalisation before it stays in float32.
    """
    held = torch.load(engine_file, map_location="cpu", weights_only=True)
    meta = TorchCheckpoint.model_validate_json(held["meta"])
    module = make_module(meta.architecture)
    module.load_state_dict(held["state_dict"])
    network: nn.Module = fuse(module.eval())
    dtype: torch.dtype = getattr(torch, precision(meta.precision).dtype)
    network = network.to(dtype).to(memory_format=torch.channels_last)
    return Classifier(network, meta.preprocessing).eval(), meta


def executed(classifier: Classifier) -> dict[str, int]:
    """Count the loaded network's convolutions and matrix products by the type of their weights.

    Single precision counts as "tf32" where torch lets tensor cores round its inputs to that.
    """
    on_card = next(classifier.network.parameters()).is_cuda
    rounded = on_card and torch.backends.cudnn.allow_tf32 and torch.backends.cuda.matmul.allow_tf32
    found: Counter[str] = Counter()
    for module in classifier.network.modules():
        if isinstance(module, (nn.modules.conv._ConvNd, nn.Linear)):
            dtype = str(module.weight.dtype).removeprefix("torch.")
            found["tf32" if rounded and dtype == "float32" else dtype] += 1
    return dict(found.most_common())
