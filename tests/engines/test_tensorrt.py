"""TensorRT without a GPU: ahead-of-time builds by TensorRT-RTX, and refusals.

What needs a device is in tests/gpu.
"""

from __future__ import annotations

import json
import logging
import os
import signal
import threading
from dataclasses import replace

import pytest

from stagebench.engines import registry
from stagebench.engines.tensorrt import build as tensorrt_build
from stagebench.engines.tensorrt import inspector
from stagebench.engines.tensorrt.options import BuildOptions, RunOptions
from stagebench.host import gpu, identity
from stagebench.records.io import digest
from stagebench.vocabulary import RefusedError, Status, precision

trt = pytest.importorskip("tensorrt_rtx")
# precision -> (prepared file, compute capabilities that it is built for)
BUILDS = {
    "fp32": ("fp32", ("8.0", "8.9", "12.0")),
    "tf32": ("fp32", ("8.0", "12.0")),
    "fp16": ("fp16", ("8.0", "8.9", "12.0")),
    "bf16": ("bf16", ("8.0", "12.0")),
    "int8": ("int8-tensorrt", ("8.0", "8.9", "12.0")),
    "fp8": ("fp8", ("8.9", "12.0")),
}


def plan(target, *, batch=8, tf32=False, **options):
    chosen = BuildOptions(**{"workspace_gib": 2, **options})
    return tensorrt_build.Plan(batch=batch, crop=224, tf32=tf32, target=target, present=target is None, options=chosen)


def build(onnx, tmp_path, target, **options):
    cancelled = options.pop("cancelled", None)
    out = tmp_path / "x.engine"
    return out, tensorrt_build.build(trt, onnx, out, plan(target, **options), "test", cancelled)


@pytest.mark.parametrize(
    ("name", "target"), [(name, target) for name, (_, targets) in BUILDS.items() for target in targets]
)
def test_every_precision_is_built_for_absent_devices(name, target, tiny_model, tmp_path):
    variant, _ = BUILDS[name]
    engine = registry.get("tensorrt_rtx")
    assert engine.variant(name) == variant
    onnx, _ = tiny_model.variant(variant)
    out, record = build(onnx, tmp_path, target, tf32=name == "tf32")
    assert out.stat().st_size > 10_000
    assert record.settings["tf32"] is (name == "tf32")
    assert record.details["network"]["layers"]["CONVOLUTION"] == 4
    assert record.details["engine"] is None, "what is executed is not known before it runs"
    types = record.details["network"]["types"]
    wanted = {"fp16": "HALF", "bf16": "BF16", "int8": "INT8", "fp8": "FP8"}.get(name)
    assert wanted is None or types.get(wanted, 0) > 0
    json.loads(record.model_dump_json())


@pytest.mark.parametrize(
    ("variant", "target", "words"),
    [
        ("fp8", "8.0", "fp8_e4m3"),
        ("bf16", "7.5", "HW-specific datatypes"),
        ("fp32", "9.0", "no target SM90"),
    ],
)
def test_what_a_target_cannot_is_refused_in_the_librarys_words(variant, target, words, tiny_model, tmp_path):
    onnx, _ = tiny_model.variant(variant)
    with pytest.raises(RefusedError, match=words):
        build(onnx, tmp_path, target)
    assert not (tmp_path / "x.engine").exists()


def test_a_file_that_is_no_model_is_refused_with_the_parsers_words(tmp_path):
    broken = tmp_path / "broken.onnx"
    broken.write_bytes(b"no model")
    with pytest.raises(RefusedError, match=r"the parser refuses broken\.onnx: .{10}"):
        build(broken, tmp_path, "8.0")


def test_too_small_a_workspace_is_a_failure_not_a_missing_feature(tiny_model, tmp_path):
    onnx, _ = tiny_model.variant("fp32")
    with pytest.raises(RuntimeError, match=r"(?i)the build failed.*workspace"):
        build(onnx, tmp_path, "8.0", batch=256, workspace_gib=1e-6)


def test_a_batch_size_can_stay_open_within_bounds(tiny_model, tmp_path):
    onnx, _ = tiny_model.variant("fp16")
    sizes = {"min": 1, "opt": 4, "max": 8}
    _, record = build(onnx, tmp_path, "8.0", dynamic_batch=sizes)
    assert record.settings["batch"] == sizes
    with pytest.raises(RefusedError, match="spans 1 to 8, the cell has 16"):
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
        made = replace(plan("8.0"), timing_cache=file)
        return tensorrt_build.build(trt, onnx, tmp_path / "x.engine", made, "test").details["timing_cache"]

    first = recorded()
    assert first["sha256_before"] is None
    assert first["sha256_after"] == digest(file)
    assert recorded()["sha256_before"] == first["sha256_after"]
    file.write_bytes(b"no cache at all")
    assert recorded()["sha256_after"] == digest(file)
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
    with pytest.raises((RuntimeError, RefusedError), match=r"(?i)cuda"):
        build(onnx, tmp_path, None)


@pytest.mark.skipif(gpu.gpu_present(), reason="there is a GPU")
def test_without_a_device_a_session_is_unavailable(tmp_path):
    from stagebench.engines.tensorrt.session import open_session

    (tmp_path / "x.engine").write_bytes(b"x")
    with pytest.raises(RefusedError, match="CUDA"):
        open_session(trt, tmp_path / "x.engine", 1, "fp32", RunOptions())


def machine(capability, *, present):
    return identity.absent(capability).model_copy(update={"present": present})


def test_support_names_what_is_missing():
    rtx, full = registry.get("tensorrt_rtx"), registry.get("tensorrt")
    fp32, tf32 = precision("fp32"), precision("tf32")
    assert "not installed" in full.support(fp32, machine("8.0", present=True)).reason
    assert rtx.support(tf32, machine("7.5", present=False)).status is Status.UNSUPPORTED
    nothing = machine("8.0", present=True).model_copy(update={"gpu": None})
    if not gpu.gpu_present():
        assert rtx.support(fp32, nothing).status is Status.UNAVAILABLE
        assert "driver" in rtx.support(fp32, nothing).reason


def tensor(dtype: str, schema: int) -> dict[str, str]:
    """A tensor as the inspector of TensorRT 10 or 11 gives it."""
    if schema == 10:
        return {"Name": "a", "Format/Datatype": f"Row major linear {dtype} format"}
    return {"Name": "a", "Format": "Row major linear", "DataType": dtype}


def information(schema: int, dtype: str = "FP16") -> dict:
    """Two convolutions that take `dtype`, between a reformat and a pooling in single precision."""
    single, own = tensor("FP32", schema), tensor(dtype, schema)
    layers = [
        {"LayerType": "Reformat", "Inputs": [single], "Outputs": [own]},
        {"LayerType": "CaskConvolution", "ParameterType": "Convolution", "Inputs": [own], "Outputs": [own]},
        {"LayerType": "CaskGemmConvolution", "ParameterType": "Convolution", "Inputs": [own], "Outputs": [single]},
        {"LayerType": "PoolingV2", "ParameterType": "Pooling", "Inputs": [single], "Outputs": [single]},
    ]
    ends = (
        {"Bindings": ["images", "logits"]}
        if schema == 10
        else {"I/O Tensors": [{"Name": "images"}, {"Name": "logits"}]}
    )
    return {"Layers": layers, **ends}


@pytest.mark.parametrize("schema", [10, 11])
def test_both_schemas_of_the_inspector_are_read(schema):
    found = inspector.summarise(information(schema))
    assert found.executed == {"fp16": 2}
    assert found.tensor_types == {"fp16": 2, "fp32": 2}
    assert found.layer_kinds == {"CaskConvolution": 1, "CaskGemmConvolution": 1, "PoolingV2": 1, "Reformat": 1}
    assert found.ends == ["images", "logits"]


def test_with_less_verbosity_nothing_is_known_of_what_is_executed():
    found = inspector.summarise({"Layers": ["conv1 + relu", "fc"], "Bindings": ["images", "logits"]})
    assert found.executed == {}
    inspector.require_executed(found.executed, "int8")  # there is nothing to judge


@pytest.mark.parametrize(
    ("name", "dtype"),
    [("fp32", "FP32"), ("tf32", "Float"), ("fp16", "Half"), ("bf16", "BF16"), ("int8", "Int8"), ("fp8", "FP8")],
)
def test_layers_that_compute_in_the_precision_are_accepted(name, dtype):
    inspector.require_executed(inspector.summarise(information(11, dtype)).executed, name)


@pytest.mark.parametrize(("name", "dtype"), [("int8", "FP16"), ("fp16", "FP32"), ("fp8", "FP16"), ("fp32", "FP16")])
def test_layers_that_compute_in_another_type_are_refused(name, dtype):
    with pytest.raises(RefusedError, match=f"built for {name}, but its layers compute in 2 x {dtype.lower()}"):
        inspector.require_executed(inspector.summarise(information(10, dtype)).executed, name)
