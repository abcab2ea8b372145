"""Tests for owners of an NVIDIA GPU: `make test-gpu`. They run by themselves where there is one."""

from __future__ import annotations

from functools import cache
from importlib.util import find_spec
from types import SimpleNamespace

import pytest
from common import prepared_model
from gpu_helpers import BATCH, run

from stagebench import device, engines, gpu, records
from stagebench.dataset.manifest import validation_rows
from stagebench.engines.build import build_engine
from stagebench.model import checks
from stagebench.model.images import batches
from stagebench.preprocessing import Preprocessing


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
    """A function that gives torch's logits on this card, in the precision that a precision is held against."""

    @cache
    def logits(precision):
        built = build("torch", {"int8": "fp32", "fp8": "fp32"}.get(precision, precision))
        assert built.record["status"] == "ok", built.record["reason"]
        with engines.get("torch").open(built.file, built.record, BATCH) as session:
            return run(session, images)[0]

    return logits


def builder(model, folder):
    """Return a function that builds a model's engines on this machine."""
    here = folder / "local.json"
    device.probe("local", None, here)

    def built(name, precision, batch=BATCH, **options):
        out = folder / f"{name}-{precision}-{batch}.engine"
        variant = engines.get(name).variant(precision)
        source = (model.weights, model.weights_record) if variant == "weights" else model.variant(variant)
        build_engine(
            name,
            *source,
            here,
            out,
            out.with_suffix(".json"),
            precision=precision,
            batch=batch,
            model="model",
            architecture=model.architecture,
            preprocessing=model.preprocessing,
            options={"workspace_gib": 4, **options},
            cache_folder=folder / "caches",
        )
        return SimpleNamespace(file=out, record=records.read_record(out.with_suffix(".json")))

    return built


@pytest.fixture(params=["tensorrt", "tensorrt_rtx"])
def library(request):
    """The name of each TensorRT engine whose library is installed."""
    if find_spec(request.param) is None:
        pytest.skip(f"{request.param} is not installed")
    return request.param
