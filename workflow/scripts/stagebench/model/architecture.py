"""From the name of an architecture to a module, and to the classifier that takes the decoder's own pixels."""

from __future__ import annotations

import pickle
from importlib import import_module
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from stagebench.errors import StagebenchError

if TYPE_CHECKING:
    from pathlib import Path

    from stagebench.preprocessing import Preprocessing


class Classifier(nn.Module):
    """A network with the preprocessing's arithmetic in front: uint8 [N, crop, crop, 3] to float32 logits [N, classes].

    The cast is the first operation, since TensorRT takes uint8 nowhere else; mean and standard deviation are applied
    in float32, independent of the network's type.
    """

    mean: Tensor
    std: Tensor

    def __init__(self, network: nn.Module, preprocessing: Preprocessing) -> None:
        super().__init__()
        self.network = network
        # On the scale of a byte: (x / 255 - mean) / std = (x - 255 mean) / (255 std).
        self.register_buffer("mean", 255 * torch.tensor(preprocessing.mean).view(1, 3, 1, 1), persistent=False)
        self.register_buffer("std", 255 * torch.tensor(preprocessing.std).view(1, 3, 1, 1), persistent=False)

    def forward(self, images: Tensor) -> Tensor:
        """Return the logits of a batch."""
        pixels = images.float().permute(0, 3, 1, 2)
        normalised = (pixels - self.mean) / self.std
        logits: Tensor = self.network(normalised.to(next(self.network.parameters()).dtype))
        return logits.float()


def make_module(architecture: str) -> nn.Module:
    """Return a new module of an architecture, with its own initial weights.

    Args:
        architecture: importable callable without required arguments, "package.module.callable" or
            "package.module:callable".

    Raises:
        StagebenchError: it cannot be imported or does not return a `torch.nn.Module`.
    """
    name, _, attribute = architecture.replace(":", ".").rpartition(".")
    try:
        factory = getattr(import_module(name), attribute)
    except (ImportError, AttributeError) as error:
        raise StagebenchError(
            f"architecture {architecture!r} cannot be imported ({error}); name a callable as package.module.callable"
        ) from error
    module = factory()
    if not isinstance(module, nn.Module):
        raise StagebenchError(f"architecture {architecture!r} gives a {type(module).__name__}, not a torch.nn.Module")
    return module


def load_module(architecture: str, weights: Path) -> nn.Module:
    """Return a module in evaluation mode with the weights of a checkpoint (a state dictionary; no code is unpickled).

    Raises:
        StagebenchError: the file is no checkpoint, or belongs to another architecture.
    """
    module = make_module(architecture)
    try:
        state = torch.load(weights, map_location="cpu", weights_only=True)
        module.load_state_dict(state)
    except (pickle.UnpicklingError, RuntimeError, EOFError, AttributeError, TypeError) as error:
        reason = " ".join(str(error).split())[:300]
        raise StagebenchError(f"{weights}: not a state dictionary of {architecture}: {reason}") from error
    return module.eval()
