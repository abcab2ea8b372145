"""TensorRT without a GPU: ahead-of-time builds by TensorRT-RTX, and refusals.

What needs a device is in tests/gpu.
"""

from __future__ import annotations

import json
import logging
import os
import signal
import threading

import pytest

from stagebench import device, engines, gpu, records
from stagebench.engines import _tensorrt_build, _tensorrt_inspect
from stagebench.engines.base import EngineUnavailableError, EngineUnsupportedError, Unavailable, Unsupported

trt = pytest.importorskip("tensorrt_rtx")
# precision -> (prepared file, compute capabilities that it is built for)
BUILDS = {
    "fp32": ("fp32", ("8.0", "8.9", "12.0")),
    "tf32": ("fp32", ("8.0", "12.0")),
    "fp16": ("fp16", ("8.0", "8.9", "12.0")),
    "bf16": ("bf16", ("8.0", "12.0")),
    "int8": ("int8-symmetric", ("8.0", "8.9", "12.0")),
    "fp8": ("fp8", ("8.9", "12.0")),
}


def plan(target, *, batch=8, tf32=False, **options):
    return _tensorrt_build.Plan(
        batch=batch, crop=224, tf32=tf32, target=target, present=target is None, options={"workspace_gib": 2, **options}
    )


def build(onnx, tmp_path, target, **options):
    cancelled = options.pop("cancelled", None)
    out = tmp_path / "x.engine"
    return out, _tensorrt_build.build(trt, onnx, out, plan(target, **options), "test", cancelled)


@pytest.mark.parametrize(
    ("precision", "target"), [(name, target) for name, (_, targets) in BUILDS.items() for target in targets]
)
def test_every_precision_is_built_for_absent_devices(precision, target, tiny_model, tmp_path):
    variant, _ = BUILDS[precision]
    engine = engines.get("tensorrt_rtx")
    assert engine.variant(precision) == variant
    onnx, _ = tiny_model.variant(variant)
    out, record = build(onnx, tmp_path, target, tf32=precision == "tf32")
    assert out.stat().st_size == record["engine_bytes"] > 10_000
    assert record["tf32"] is (precision == "tf32")
    assert record["network"]["layers"]["CONVOLUTION"] == 4
    types = record["network"]["types"]
    wanted = {"fp16": "HALF", "bf16": "BF16", "int8": "INT8", "fp8": "FP8"}.get(precision)
    assert wanted is None or types.get(wanted, 0) > 0
    json.dumps(record, allow_nan=False)


@pytest.mark.parametrize(
    ("variant", "target", "words"),
    [
        ("fp8", "8.0", "fp8_e4m3"),
        ("bf16", "7.5", "HW-specific datatypes"),
        ("fp32", "9.0", "no target SM90"),
        ("int8-asymmetric", "8.0", "the parser refuses int8-asymmetric.onnx"),
    ],
)
def test_what_a_target_cannot_is_refused_in_the_librarys_words(variant, target, words, tiny_model, tmp_path):
    onnx, _ = tiny_model.variant(variant)
    with pytest.raises(EngineUnsupportedError, match=words):
        build(onnx, tmp_path, target)
    assert not (tmp_path / "x.engine").exists()


def test_a_file_that_is_no_model_is_refused_with_the_parsers_words(tmp_path):
    broken = tmp_path / "broken.onnx"
    broken.write_bytes(b"no model")
    with pytest.raises(EngineUnsupportedError, match=r"the parser refuses broken\.onnx: .{10}"):
        build(broken, tmp_path, "8.0")


def test_too_small_a_workspace_is_a_failure_not_a_missing_feature(tiny_model, tmp_path):
    onnx, _ = tiny_model.variant("fp32")
    with pytest.raises(RuntimeError, match=r"(?i)the build failed.*workspace"):
        build(onnx, tmp_path, "8.0", batch=256, workspace_gib=1e-6)


def test_a_batch_size_can_stay_open_within_bounds(tiny_model, tmp_path):
    onnx, _ = tiny_model.variant("fp16")
    sizes = {"min": 1, "opt": 4, "max": 8}
    _, record = build(onnx, tmp_path, "8.0", dynamic_batch=sizes)
    assert record["batch"] == sizes
    with pytest.raises(EngineUnsupportedError, match="spans 1 to 8, the cell has 16"):
        build(onnx, tmp_path, "8.0", batch=16, dynamic_batch=sizes)


def test_a_build_can_be_interrupted(tiny_model, tmp_path):
    cancelled = threading.Event()
    cancelled.set()
    onnx, _ = tiny_model.variant("fp32")
    with pytest.raises(RuntimeError, match="interrupted"):
        build(onnx, tmp_path, "8.0", cancelled=cancelled)


@pytest.mark.filterwarnings("ignore:Use Deprecated in TensorRT-RTX")
def test_what_a_build_learned_is_kept_in_a_file_that_builds_can_do_without(tiny_model, tmp_path):
    """TensorRT-RTX takes timing caches, which are empty there: what is shown is the file, not its effect."""
    onnx, _ = tiny_model.variant("fp32")
    file = tmp_path / "caches/tensorrt.timing"

    def recorded():
        made = _tensorrt_build.Plan(
            batch=8,
            crop=224,
            tf32=False,
            target="8.0",
            present=False,
            options={"workspace_gib": 2},
            timing_cache=file,
        )
        return _tensorrt_build.build(trt, onnx, tmp_path / "x.engine", made, "test")["timing_cache"]

    first = recorded()
    assert first["sha256_before"] is None
    assert first["sha256_after"] == records.digest(file)
    assert recorded()["sha256_before"] == first["sha256_after"]
    file.write_bytes(b"no cache at all")
    assert recorded()["sha256_after"] == records.digest(file)
    assert sorted(path.name for path in file.parent.iterdir()) == ["tensorrt.timing", "tensorrt.timing.lock"]
    file.unlink()
    file.mkdir()  # a place that cannot be written to
    (file / "something").touch()
    assert "tensorrt.timing" in recorded()["not_kept"]


class Interrupting(logging.Handler):
    """Sends this process SIGINT at the builder's first phase, as Ctrl-C would."""

    def emit(self, record):
        if record.getMessage().startswith("phase "):
            os.kill(os.getpid(), signal.SIGINT)


@pytest.fixture
def interrupting():
    """SIGINT at the first phase of a build."""
    log, handler = logging.getLogger("stagebench.tensorrt"), Interrupting()
    level = log.level
    log.addHandler(handler)
    log.setLevel(logging.INFO)
    yield
    log.removeHandler(handler)
    log.setLevel(level)


def test_ctrl_c_ends_a_build_between_two_steps(interrupting, tiny_model, tmp_path):
    """The library returns before the exception is raised: none passes through its own code."""
    onnx, _ = tiny_model.variant("fp32")
    before = signal.getsignal(signal.SIGINT)
    with pytest.raises(KeyboardInterrupt):
        build(onnx, tmp_path, "8.0")
    assert signal.getsignal(signal.SIGINT) is before
    assert not (tmp_path / "x.engine").exists()


@pytest.mark.skipif(gpu.gpu_present(), reason="there is a GPU")
def test_without_a_device_the_library_says_so(tiny_model, tmp_path):
    """The real library on a machine without a driver: building for this device fails with CUDA's own error."""
    onnx, _ = tiny_model.variant("fp32")
    with pytest.raises((RuntimeError, EngineUnavailableError), match=r"(?i)cuda"):
        build(onnx, tmp_path, None)


@pytest.mark.skipif(gpu.gpu_present(), reason="there is a GPU")
def test_without_a_device_a_session_is_unavailable(tmp_path):
    from stagebench.engines._tensorrt_session import open_session

    (tmp_path / "x.engine").write_bytes(b"x")
    with pytest.raises(EngineUnavailableError, match="CUDA"):
        open_session(trt, tmp_path / "x.engine", 1, "fp32", {})


def record_of(capability, *, present):
    identity = {**device.absent(capability), "present": present}
    return {"identity": identity}


def test_support_names_what_is_missing():
    rtx, full = engines.get("tensorrt_rtx"), engines.get("tensorrt")
    assert "not installed" in full.support("fp32", record_of("8.0", present=True)).reason
    assert isinstance(rtx.support("tf32", record_of("7.5", present=False)), Unsupported)
    nothing = {"identity": {**device.absent("8.0"), "present": True, "gpu": None}}
    if not gpu.gpu_present():
        assert isinstance(rtx.support("fp32", nothing), Unavailable)
        assert "driver" in rtx.support("fp32", nothing).reason


@pytest.mark.parametrize(
    "information",
    [
        {
            "Layers": [
                {"LayerType": "Conv", "Outputs": [{"Name": "a", "Format/Datatype": "Row major linear FP16 format"}]},
                {"LayerType": "Conv", "Outputs": [{"Name": "b", "Format/Datatype": "Row major linear FP16 format"}]},
            ],
            "Bindings": ["images", "logits"],
        },
        {
            "Layers": [
                {"LayerType": "Conv", "Outputs": [{"Name": "a", "Format": "Row major linear", "DataType": "FP16"}]},
                {"LayerType": "Conv", "Outputs": [{"Name": "b", "Format": "Row major linear", "DataType": "FP16"}]},
            ],
            "I/O Tensors": [{"Name": "images"}, {"Name": "logits"}],
        },
    ],
    ids=["schema of 10", "schema of 11"],
)
def test_both_schemas_of_the_inspector_are_read(information):
    found = _tensorrt_inspect.summarise(information)
    assert found["tensor_types"] == {"FP16": 2}
    assert found["layer_kinds"] == {"Conv": 2}
    assert found["ends"] == ["images", "logits"]
