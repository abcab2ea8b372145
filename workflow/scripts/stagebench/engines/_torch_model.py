"""From torch's engine file to a module that is ready to run, wherever it runs."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.fx.experimental.optimization import fuse

from stagebench.model.architecture import Classifier, make_module
from stagebench.preprocessing import Preprocessing

DTYPES = {"fp32": torch.float32, "tf32": torch.float32, "fp16": torch.float16, "bf16": torch.bfloat16}


def load_classifier(engine_file: Path) -> tuple[Classifier, dict[str, Any]]:
    """Return the classifier in evaluation mode, batch norms folded and channels last, and the engine file's meta data.

    The network is in the precision's type; the normalisation before it stays in float32.
    """
    held = torch.load(engine_file, map_location="cpu", weights_only=True)
    meta = held["meta"]
    module = make_module(meta["architecture"])
    module.load_state_dict(held["state_dict"])
    network: nn.Module = fuse(module.eval())
    network = network.to(DTYPES[meta["precision"]]).to(memory_format=torch.channels_last)
    return Classifier(network, Preprocessing.model_validate(meta["preprocessing"])).eval(), meta
