"""Every name of TensorRT in the sources exists in 10.13, 10.16, 11.0, 11.4 and in TensorRT-RTX.

The names come from NVIDIA's real bindings; `make bindings` wrote them into `bindings/`, and CI compares them.
"""

from __future__ import annotations

import ast
from pathlib import Path

import pytest
from bindings_names import FILES, Found, Release, find, read_sources

from stagebench.engines import tensorrt

SOURCES = read_sources(sorted(Path(tensorrt.__file__).parent.glob("*.py")))
RELEASES = [Release.read(file) for file in FILES]
[RTX] = [release for release in RELEASES if release.library == "tensorrt_rtx"]
HEAD = """
def use(trt: TensorRT, config: tensorrt.IBuilderConfig, runtime: tensorrt.Runtime):
    engine = runtime.deserialize_cuda_engine(b"")
    context = engine.create_execution_context()
    parser = trt.OnnxParser(None, None)
"""


def used_in(statement: str, release: Release) -> Found:
    return find([ast.parse(f"{HEAD}    {statement}")], release, RTX)


def test_the_releases_are_those_that_are_spoken_of():
    assert [str(release) for release in RELEASES] == [
        "tensorrt 10.13.3.9",
        "tensorrt 10.16.1.11",
        "tensorrt 11.0.0.114",
        "tensorrt 11.4.0.106",
        "tensorrt_rtx 1.7.1.116",
    ]


@pytest.mark.parametrize("release", RELEASES, ids=str)
def test_every_name_exists(release):
    found = find(SOURCES, release, RTX)
    assert found.missing == set()
    assert found.unknown == set()


def test_names_are_followed_into_what_the_library_gives():
    used = find(SOURCES, RELEASES[0], RTX).used
    assert used["tensorrt"] >= {
        "Builder",
        "BuilderFlag.TF32",
        "Builder.build_serialized_network",
        "EngineInspector.get_engine_information",
        "IBuilderConfig.progress_monitor",
        "ICudaEngine.create_execution_context",
        "ICudaEngine.device_memory_size_v2",
        "IExecutionContext.execute_async_v3",
        "IExecutionContext.set_tensor_address",
        "ILayer.get_output",
        "ILogger.Severity.INTERNAL_ERROR",
        "INetworkDefinition.get_layer",
        "IOptimizationProfile.set_shape",
        "ITensor.dtype",
        "ITimingCache.combine",
        "NetworkDefinitionCreationFlag.STRONGLY_TYPED",
        "OnnxParser.parse_from_file",
        "ParserError.desc",
        "Runtime.deserialize_cuda_engine",
    }
    # Where a target is named, and where a graph is captured: nowhere else may a name be TensorRT-RTX's alone.
    assert used["tensorrt_rtx"] == {
        "ComputeCapability",
        "IBuilderConfig.num_compute_capabilities",
        "IBuilderConfig.set_compute_capability",
        "IExecutionContext.is_stream_capturable",
    }


@pytest.mark.parametrize(
    ("statement", "name"),
    [
        ("config.set_flag(trt.BuilderFlag.FP16)", "BuilderFlag.FP16"),
        ("config.int8_calibrator = None", "IBuilderConfig.int8_calibrator"),
        ("trt.NetworkDefinitionCreationFlag.EXPLICIT_BATCH", "NetworkDefinitionCreationFlag.EXPLICIT_BATCH"),
        ("engine.device_memory_size", "ICudaEngine.device_memory_size"),
        ("parser.supports_model(b'')", "OnnxParser.supports_model"),
    ],
)
def test_a_name_that_was_removed_fails_on_11_only(statement, name):
    for release in RELEASES:
        gone = not release.version.startswith("10.")
        assert used_in(statement, release).missing == ({f"tensorrt.{name}"} if gone else set()), release


@pytest.mark.parametrize(
    "statement",
    [
        "trt.Bilder",
        "context.execute_async_v9(0)",
        "engine.create_execution_context().set_tensor_adress('', 0)",
        "engine.create_engine_inspector().get_engine_info()",
    ],
)
@pytest.mark.parametrize("release", RELEASES, ids=str)
def test_a_misspelt_name_fails_everywhere(release, statement):
    assert len(used_in(statement, release).missing) == 1


def test_what_cannot_be_followed_is_told():
    """The bindings do not say of every property what it holds: the sources have to, by an annotation."""
    assert used_in("context.engine.anything", RELEASES[0]).unknown == {"context.engine.anything (line 6)"}
