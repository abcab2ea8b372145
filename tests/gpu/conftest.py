"""Tests for owners of an NVIDIA GPU: `make test-gpu`. They run by themselves where there is one."""

from __future__ import annotations

from functools import cache
from importlib.util import find_spec

import pytest
from support.ring import run
from support.stages import engine_builder, prepared_model

from stagebench.dataset.manifest import validation_rows
from stagebench.engines import registry
from stagebench.host import gpu
from stagebench.model import checks
from stagebench.model.batches import batches
from stagebench.preprocessing import Preprocessing
from stagebench.vocabulary import precision

BATCH = 8


def pytest_collection_modifyitems(items):
    reason = gpu.probe()
    for item in items:
        if "gpu" in item.path.parts:
            item.add_marker(pytest.mark.gpu)
            if reason:
                item.add_marker(pytest.mark.skip(reason=reason))


@pytest.fixture(scope="session")
def images(sample):
    return next(batches(sample.manifest, validation_rows(sample.manifest, None), Preprocessing(), 32))


@pytest.fixture(scope="session")
def wanted(tiny_model, images):
    """fp32 logits by ONNX Runtime on the CPU."""
    return checks.run(tiny_model.simplified, images)


@pytest.fixture(scope="session")
def build(tiny_model, tmp_path_factory):
    """A function that builds an engine of the small network: (engine, precision, batch) -> file and record."""
    return builder(tiny_model, tmp_path_factory.mktemp("gpu"))


@pytest.fixture(scope="session")
def build_resnet50(sample, tmp_path_factory):
    """The same for ResNet-50, where the small network would measure launches alone."""
    model = prepared_model("torchvision.models.resnet50", sample, tmp_path_factory.mktemp("resnet50"))
    return builder(model, tmp_path_factory.mktemp("gpu-resnet50"))


@pytest.fixture(scope="session")
def by_torch(build, images):
    """A function that gives torch's logits on this card, in the precision that a precision is compared with."""

    @cache
    def logits(name):
        built = build("torch", precision(name).reference)
        assert built.record.ok, built.record.reason
        with registry.get("torch").open(built.file, built.record) as session:
            return run(session, images)[0]

    return logits


def builder(model, folder):
    """Return a function that builds a model's engines on this machine, with little scratch memory."""
    build = engine_builder(model, folder)

    def built(name, precision, batch=BATCH, **options):
        limited = {"workspace_gib": 4, **options} if name.startswith("tensorrt") else options
        return build(name, precision, batch, **limited)

    return built


@pytest.fixture(params=["tensorrt", "tensorrt_rtx"])
def library(request):
    """The name of each TensorRT engine whose library is installed."""
    if find_spec(request.param) is None:
        pytest.skip(f"{request.param} is not installed")
    return request.param
