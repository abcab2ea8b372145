"""Where pairs of Q/DQ are in the prepared files of ResNet-50, and that making them sends nothing to anyone."""

import os
import subprocess
import sys

import numpy as np
import onnx
import pytest
from support.stages import prepared_model

from stagebench.model.variants import prepare_variant
from stagebench.records.io import digest
from stagebench.records.models import VariantRecord
from stagebench.vocabulary import Status


class Graph:
    """A file's nodes by what they make and by what they take."""

    def __init__(self, path):
        model = onnx.load(path)
        self.nodes = model.graph.node
        self.made_by = {name: node for node in model.graph.node for name in node.output}
        self.constants = {tensor.name: tensor for tensor in model.graph.initializer}

    def of(self, *kinds):
        return [node for node in self.nodes if node.op_type in kinds]

    def before(self, node, k):
        """The kind of operation that makes an input of a node; None for a constant."""
        made = self.made_by.get(node.input[k])
        return None if made is None else made.op_type

    def after(self, node):
        """The kinds of operations that take a node's first output."""
        return {taker.op_type for taker in self.nodes if node.output[0] in taker.input}

    def quantised(self, *kinds):
        return [node for node in self.of(*kinds) if self.before(node, 0) == self.before(node, 1) == "DequantizeLinear"]


@pytest.fixture(scope="module")
def resnet50(sample, tmp_path_factory):
    return prepared_model("torchvision.models.resnet50", sample, tmp_path_factory.mktemp("resnet50"))


@pytest.fixture(scope="module")
def mobilenet(sample, tmp_path_factory):
    return prepared_model("torchvision.models.mobilenet_v3_small", sample, tmp_path_factory.mktemp("mobilenet"))


@pytest.fixture(scope="module")
def graphs(resnet50):
    """The quantised files; where pairs go does not depend on how many images there were."""
    return {name: Graph(resnet50.variant(name, images=2)[0]) for name in ("int8-cpu", "int8-tensorrt", "fp8")}


@pytest.mark.parametrize(("name", "convolutions", "products"), [("int8-tensorrt", 53, 1), ("fp8", 52, 0)])
def test_tensorrt_can_fuse_a_convolution_its_addition_and_its_relu(name, convolutions, products, graphs):
    graph = graphs[name]
    assert len(graph.of("Conv")) == 53
    assert len(graph.quantised("Conv")) == convolutions
    assert len(graph.quantised("Gemm")) == products
    additions = graph.of("Add")
    assert len(additions) == 16
    for node in additions:
        assert sorted(graph.before(node, k) for k in (0, 1)) == ["Conv", "DequantizeLinear"]
    skips = [node.input[k] for node in additions for k in (0, 1) if graph.before(node, k) == "DequantizeLinear"]
    sources = [graph.made_by[graph.made_by[skip].input[0]].input[0] for skip in skips]
    of_convolutions = [name for name in sources if graph.made_by[name].op_type == "Conv"]
    assert len(of_convolutions) == 4, "a pair behind each convolution of a shortcut, and behind no other"
    for node in graph.of("Conv"):
        wanted = {"QuantizeLinear"} if node.output[0] in of_convolutions else {"Relu"}, {"Add"}
        assert graph.after(node) in wanted


@pytest.mark.parametrize(
    ("name", "last"), [("int8-cpu", ["Gemm"]), ("int8-tensorrt", ["Cast", "Gemm"]), ("fp8", ["Cast", "Gemm"])]
)
def test_logits_are_floats_that_were_never_quantised(name, last, graphs):
    """`checks.check_graph` has shown that the end of the graph is float32."""
    graph, found, tensor = graphs[name], [], "logits"
    for _ in last:
        node = graph.made_by[tensor]
        found.append(node.op_type)
        tensor = node.input[0]
    assert found == last


@pytest.mark.parametrize("name", ["int8-tensorrt", "fp8"])
def test_what_is_not_quantised_is_fp16_but_for_the_preprocessing(name, graphs):
    graph = graphs[name]
    floats = {name for name, tensor in graph.constants.items() if tensor.data_type == onnx.TensorProto.FLOAT}
    takers = {node.op_type for node in graph.nodes if floats & set(node.input)}
    assert takers <= {"Sub", "Div"}


def test_cpus_get_no_pair_between_a_convolution_and_its_relu(graphs):
    graph = graphs["int8-cpu"]
    assert len(graph.of("Conv")) == 53
    behind = [graph.after(node) for node in graph.of("Conv")]
    assert behind.count({"Relu"}) == 33
    for node in graph.of("Add"):
        assert graph.after(node) == {"Relu"}
        assert {graph.before(node, k) for k in (0, 1)} == {"DequantizeLinear"}
    begin = [node.op_type for node in graph.nodes if node.op_type in ("Cast", "Transpose", "Sub", "Div")]
    assert begin == ["Cast", "Transpose", "Sub", "Div"]
    assert not any("QuantizeLinear" in graph.after(node) for node in graph.of("Cast", "Transpose", "Sub"))


@pytest.mark.parametrize("name", ["int8-tensorrt", "fp8"])
def test_depthwise_convolutions_and_gates_have_their_place(name, mobilenet):
    """Gates (squeeze-and-excitation) stay in fp16, and in fp8 whatever has no kernels."""
    path, record = mobilenet.variant(name, images=16)
    graph, found = Graph(path), VariantRecord.read(record).found
    assert found.compared.cosine > 0.999
    pooled = [node for node in graph.of("Conv") if graph.before(node, 0) == "GlobalAveragePool"]
    assert pooled
    assert not any(graph.before(node, 1) == "DequantizeLinear" for node in pooled)
    quantised = graph.quantised("Conv")
    grouped = [node for node in quantised if any(entry.name == "group" and entry.i > 1 for entry in node.attribute)]
    assert bool(grouped) is (name == "int8-tensorrt")
    if name == "fp8":
        stored = [graph.constants[graph.made_by[node.input[1]].input[0]].dims for node in quantised]
        assert stored
        assert all(dims[0] % 16 == dims[1] % 16 == 0 for dims in stored)


def test_the_record_says_what_was_quantised_and_with_what(tiny_model):
    found = VariantRecord.read(tiny_model.variant("int8-tensorrt")[1]).found.quantisation
    assert found.activations == found.weights == ("int8",)
    assert (found.elsewhere, found.library, found.method) == ("float16", "nncf", "default")
    assert found.operations == {"Add": 1, "Conv": 4, "Gemm": 1}
    assert (found.calibration.images, found.calibration.splits) == (32, ("fit",))


@pytest.fixture
def other_settings(sample, tmp_path):
    """A function that prepares a file of a small network under other settings."""
    from support.stages import ARCHITECTURE

    made = prepared_model(ARCHITECTURE, sample, tmp_path)
    return lambda name, **settings: made.variant(name, images=2, **settings)


def test_seven_bits_of_weights_and_excluded_nodes_are_what_the_file_has(other_settings):
    path, record = other_settings("int8-cpu", weight_bits=7, exclude=("/network/fc/Gemm",))
    graph, found = Graph(path), VariantRecord.read(record).found.quantisation
    weights = [graph.constants[graph.made_by[node.input[1]].input[0]] for node in graph.quantised("Conv")]
    assert len(weights) >= 3
    assert all(abs(onnx.numpy_helper.to_array(tensor)).max() <= 64 for tensor in weights)
    assert graph.quantised("Gemm") == []
    assert found.weight_bits == 7
    assert found.exclude == ("/network/fc/Gemm",)


def test_an_excluded_node_that_there_is_not_is_named(other_settings):
    _, record = other_settings("int8-tensorrt", exclude=("/network/fc/Gem",))
    read = VariantRecord.read(record)
    assert read.status is Status.FAILED
    assert "quantization.exclude" in read.reason
    assert "did you mean '/network/fc/Gemm'?" in read.reason


def test_nncf_sends_no_reports_of_usage(repository, tmp_path):
    """In a process without pytest, which alone would keep NNCF silent: no object that could send is made."""
    code = (
        "from openvino_telemetry.backend.backend import BackendRegistry\n"
        "made, get = [], BackendRegistry.get_backend\n"
        "BackendRegistry.get_backend = lambda name: made.append(name) or get(name)\n"
        "IMPORT\n"
        "import nncf.telemetry.wrapper\n"
        "print(len(made), type(nncf.telemetry.wrapper.telemetry).__name__)"
    )
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("NNCF", "PYTEST", "CI"))}
    environment |= {"PYTHONPATH": str(repository / "workflow/scripts"), "HOME": str(tmp_path)}

    def printed(imported):
        done = subprocess.run(
            [sys.executable, "-c", code.replace("IMPORT", imported)],
            env=environment,
            capture_output=True,
            text=True,
            check=True,
        )
        return done.stdout.split()

    assert printed("from stagebench.model.calibration import load_nncf; load_nncf()") == ["0", "MagicMock"]
    assert not (tmp_path / "intel").exists(), "an identity for reports in the user's home"
    environment["NNCF_CI"] = "1"
    assert printed("import nncf") == ["1", "MagicMock"], "the variable alone lets it be made, which this test sees"


@pytest.fixture
def brought(tiny_model, sample, tmp_path):
    """A function that takes a file in place of a variant, and returns what came of it: file and record."""

    def take(name, file, sha256=None):
        out, record = tmp_path / f"{name}.onnx", tmp_path / f"{name}.json"
        prepare_variant(
            name,
            tiny_model.simplified,
            tiny_model.simplified_record,
            out,
            record,
            weights=tiny_model.weights,
            weights_record=tiny_model.weights_record,
            architecture=tiny_model.architecture,
            preprocessing=tiny_model.preprocessing,
            manifest=sample.manifest,
            dataset_record=sample.record,
            file=str(file),
            sha256=sha256,
        )
        return out, VariantRecord.read(record)

    return take


@pytest.mark.parametrize("name", ["int8-cpu", "int8-tensorrt"])
def test_a_file_of_ones_own_replaces_every_variant_and_is_compared_like_them(name, brought, tiny_model):
    own, made = tiny_model.variant("int8-cpu")
    out, record = brought(name, own, digest(own))
    assert out.read_bytes() == own.read_bytes()
    assert record.found.prepared == str(own)
    assert record.found.quantisation is None, "nobody here knows how it was made"
    assert record.found.compared == VariantRecord.read(made).found.compared


def test_a_file_of_ones_own_that_is_not_what_it_should_be_is_refused(brought, tiny_model, tmp_path):
    quantised = tiny_model.variant("int8-cpu")[0]
    other = onnx.load(quantised)
    other.graph.output[0].type.tensor_type.elem_type = onnx.TensorProto.DOUBLE
    onnx.save(other, tmp_path / "other.onnx")
    fewer = onnx.load(quantised)
    last = fewer.graph.node[-1]
    cut = onnx.helper.make_node("Slice", ["all", "begin", "end", "axes"], ["logits"])
    last.output[0] = "all"
    fewer.graph.node.append(cut)
    for entry, value in {"begin": 0, "end": 10, "axes": 1}.items():
        fewer.graph.initializer.append(onnx.numpy_helper.from_array(np.array([value]), entry))
    fewer.graph.output[0].type.tensor_type.shape.dim[1].dim_value = 10
    onnx.save(fewer, tmp_path / "fewer.onnx")
    cases = {
        (quantised, "0" * 64): "expected is",
        (tmp_path / "none.onnx", None): "none.onnx",
        (tiny_model.simplified, None): "not a quantised model",
        (tmp_path / "other.onnx", None): "other.onnx: ",
        (tmp_path / "fewer.onnx", None): "gives 10 classes",
    }
    for (file, sha256), words in cases.items():
        record = brought("int8-cpu", file, sha256)[1]
        assert record.status is Status.FAILED
        assert words in record.reason
