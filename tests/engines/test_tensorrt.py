"""TensorRT without a GPU: ahead-of-time builds by TensorRT-RTX, refusals, and names that every version has.

What needs a device is in tests/gpu.
"""

from __future__ import annotations

import ast
import json
import os
import shutil
import subprocess
import sys
import threading
import zipfile
from pathlib import Path

import pytest

from stagebench import device, engines, gpu
from stagebench.engines import _tensorrt_build, _tensorrt_inspect
from stagebench.engines.base import EngineUnavailableError, EngineUnsupportedError, Unavailable, Unsupported

trt = pytest.importorskip("tensorrt_rtx")
FOLDER = Path(engines.__file__).parent
# precision -> (prepared file, compute capabilities that it is built for)
BUILDS = {
    "fp32": ("fp32", ("8.0", "8.9", "12.0")),
    "tf32": ("fp32", ("8.0", "12.0")),
    "fp16": ("fp16", ("8.0", "8.9", "12.0")),
    "bf16": ("bf16", ("8.0", "12.0")),
    "int8": ("int8-symmetric", ("8.0", "8.9", "12.0")),
    "fp8": ("fp8", ("8.9", "12.0")),
}
# The releases whose bindings are held against the names that the sources use.
RELEASES = (
    "tensorrt-cu12-bindings==10.13.3.9",
    "tensorrt-cu12-bindings==10.16.1.11",
    "tensorrt-cu13-bindings==11.4.0.106",
)


def plan(target, *, batch=8, tf32=False, **options):
    return _tensorrt_build.Plan(
        batch=batch, crop=224, tf32=tf32, target=target, options={"workspace_gib": 2, **options}
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


def names_used() -> set[str]:
    """Every `trt.X` and `trt.X.Y` of the sources, and the attributes set on a builder's config."""
    found = set()
    for file in FOLDER.glob("_tensorrt*.py"):
        for node in ast.walk(ast.parse(file.read_text())):
            base, path = node, []
            while isinstance(base, ast.Attribute):
                path.append(base.attr)
                base = base.value
            if isinstance(base, ast.Name) and base.id == "trt" and path:
                found.add(".".join(reversed(path)))
            if isinstance(base, ast.Name) and base.id == "config" and path:
                found.add(f"IBuilderConfig.{path[-1]}")
    return {name for name in found if not name.startswith(("__name__", "ComputeCapability"))} - RTX_ONLY


# Used only where a target is named, which the other libraries are never asked for.
RTX_ONLY = {"IBuilderConfig.num_compute_capabilities", "IBuilderConfig.set_compute_capability"}
STUBS = {
    "nvinfer": (
        "createInferBuilder_INTERNAL",
        "createInferRefitter_INTERNAL",
        "createInferRuntime_INTERNAL",
        "getBuilderPluginRegistry",
        "getPluginRegistry",
    ),
    "nvonnxparser": ("createNvOnnxParser_INTERNAL", "createNvOnnxParserRefitter_INTERNAL", "getNvOnnxParserVersion"),
    "nvinfer_plugin": ("initLibNvInferPlugins",),
}


def test_the_sources_use_names():
    assert {"Builder", "BuilderFlag.TF32", "NetworkDefinitionCreationFlag.STRONGLY_TYPED"} <= names_used()
    assert {"IBuilderConfig.set_flag", "IBuilderConfig.progress_monitor"} <= names_used()


@pytest.mark.skipif(shutil.which("gcc") is None, reason="no C compiler")
@pytest.mark.parametrize("release", RELEASES)
def test_every_name_exists_in_the_real_bindings(release, tmp_path):
    """NVIDIA's bindings import behind libraries of the right names: names and enumerations are real, nothing runs."""
    fetched = subprocess.run(
        [sys.executable, "-m", "pip", "download", "--no-deps", "--quiet", "--dest", tmp_path, release],
        capture_output=True,
        text=True,
        check=False,
    )
    if fetched.returncode:
        pytest.skip(f"the package index does not hand out {release}")
    [wheel] = tmp_path.glob("*.whl")
    zipfile.ZipFile(wheel).extractall(tmp_path / "wheel")
    major = release.rpartition("==")[2].split(".")[0]
    for library, symbols in STUBS.items():
        source = tmp_path / f"{library}.c"
        source.write_text("".join(f"void *{symbol}(void) {{ return 0; }}\n" for symbol in symbols))
        soname = f"lib{library}.so.{major}"
        subprocess.run(
            ["gcc", "-shared", "-fPIC", f"-Wl,-soname,{soname}", "-o", tmp_path / soname, source], check=True
        )
    code = (
        "import json, sys, operator\n"
        "import tensorrt_bindings as trt\n"
        "missing = []\n"
        "for name in json.loads(sys.argv[1]):\n"
        "    try: operator.attrgetter(name)(trt)\n"
        "    except AttributeError: missing.append(name)\n"
        "print(trt.__version__, missing)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, json.dumps(sorted(names_used()))],
        env={**os.environ, "LD_LIBRARY_PATH": str(tmp_path), "PYTHONPATH": str(tmp_path / "wheel")},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    version, missing = done.stdout.strip().split(" ", 1)
    assert version == release.rpartition("==")[2]
    assert missing == "[]"
