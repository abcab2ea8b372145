"""Tests for owners of an NVIDIA GPU: `make test-gpu`. They run by themselves where there is one."""

from __future__ import annotations

from importlib.util import find_spec
from types import SimpleNamespace

import pytest
from gpu_helpers import BATCH

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
    """A function that builds an engine on this machine: (engine, precision, batch) -> file and record."""
    folder = tmp_path_factory.mktemp("gpu")
    here = folder / "local.json"
    device.probe("local", None, here)

    def built(name, precision, batch=BATCH, **options):
        out = folder / f"{name}-{precision}-{batch}.engine"
        variant = engines.get(name).variant(precision)
        source = (
            (tiny_model.weights, tiny_model.weights_record) if variant == "weights" else tiny_model.variant(variant)
        )
        build_engine(
            name,
            *source,
            here,
            out,
            out.with_suffix(".json"),
            precision=precision,
            batch=batch,
            model="tiny",
            architecture=tiny_model.architecture,
            preprocessing=tiny_model.preprocessing,
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
