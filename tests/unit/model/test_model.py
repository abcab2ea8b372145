"""From weights to prepared files, on a small network: right, checked, and the same each time."""

import hashlib

import numpy as np
import onnx
import pytest
import torch
from support.stages import ARCHITECTURE, PREPROCESSING

from stagebench.dataset.manifest import read_manifest, validation_rows
from stagebench.model import checks
from stagebench.model.architecture import Classifier, load_module
from stagebench.model.batches import batches
from stagebench.model.demo import fit_weights
from stagebench.model.export import export_model
from stagebench.model.simplify import simplify_model
from stagebench.model.variants import prepare_variant
from stagebench.model.weights import fetch_weights
from stagebench.preprocessing import Preprocessing
from stagebench.records.envelope import FileEntry, Stopwatch
from stagebench.records.kinds import KINDS
from stagebench.records.models import ExportedRecord, SimplifiedRecord, VariantRecord, WeightsRecord
from stagebench.vocabulary import ONNX_VARIANTS, Status, failed

FLOATS = {"fp32": onnx.TensorProto.FLOAT, "fp16": onnx.TensorProto.FLOAT16, "bf16": onnx.TensorProto.BFLOAT16}


@pytest.fixture(scope="module")
def images(sample):
    return next(batches(sample.manifest, validation_rows(sample.manifest, None), Preprocessing(), 32))


@pytest.fixture(scope="module")
def labels(sample):
    return np.array([row.label for row in validation_rows(sample.manifest, None)])


def first_consumer(model):
    return [node.op_type for node in model.graph.node if "images" in node.input]


def types_of(model, operator):
    """Element types of the second input (weights) of all nodes of an operator."""
    values = {tensor.name: tensor.data_type for tensor in model.graph.initializer}
    values |= {
        value.name: value.type.tensor_type.elem_type
        for value in onnx.shape_inference.infer_shapes(model).graph.value_info
    }
    return {values.get(node.input[1]) for node in model.graph.node if node.op_type == operator}


def test_demo_weights_tell_the_classes_apart(tiny_model, images, labels):
    """A linear layer on random features of 32 fitting images beats chance by far."""
    logits = checks.run(tiny_model.simplified, images)
    assert (logits.argmax(axis=1) == labels).mean() > 0.3


def test_demo_weights_are_the_same_each_time(tiny_model, sample, tmp_path):
    again = tmp_path / "tiny.pth"
    fit_weights(
        again,
        tmp_path / "tiny.json",
        architecture=ARCHITECTURE,
        preprocessing=PREPROCESSING,
        manifest=sample.manifest,
        dataset_record=sample.record,
    )
    first, second = (torch.load(path, weights_only=True) for path in (tiny_model.weights, again))
    assert first.keys() == second.keys()
    assert all(torch.equal(first[name], second[name]) for name in first)


def test_demo_weights_are_fitted_to_fitting_images_alone(tiny_model, sample):
    fitting = sum(row.split == "fit" for row in read_manifest(sample.manifest))
    assert WeightsRecord.read(tiny_model.weights_record).found.fitting_images == fitting


def test_the_exported_graph_takes_bytes_and_gives_torchs_logits(tiny_model, images):
    model = onnx.load(tiny_model.exported)
    assert first_consumer(model) == ["Cast"]
    classifier = Classifier(load_module(ARCHITECTURE, tiny_model.weights), Preprocessing()).eval()
    with torch.no_grad():
        wanted = classifier(torch.from_numpy(images)).numpy()
    for size in (1, 5, 32):
        found = checks.run(tiny_model.exported, images[:size])
        assert found.dtype == np.float32
        assert checks.difference(found, wanted[:size]) < checks.TOLERANCE
    graph = ExportedRecord.read(tiny_model.exported_record).found.graph
    assert graph.opset == 20
    assert graph.shapes["images"] == ("batch", 224, 224, 3)


def test_preprocessing_is_torchvisions(tiny_model, images):
    """Mean and standard deviation inside the graph are those of ToTensor and Normalize outside it."""
    from torchvision import transforms

    chain = transforms.Compose(
        [transforms.ToTensor(), transforms.Normalize((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))]
    )
    network = load_module(ARCHITECTURE, tiny_model.weights)
    with torch.no_grad():
        wanted = network(torch.stack([chain(image) for image in images[:4]])).numpy()
    assert checks.difference(checks.run(tiny_model.exported, images[:4]), wanted) < checks.TOLERANCE


def test_simplifying_changes_nothing_but_the_graph(tiny_model, images):
    before, after = (checks.run(path, images) for path in (tiny_model.exported, tiny_model.simplified))
    assert checks.difference(after, before) < checks.TOLERANCE
    found = SimplifiedRecord.read(tiny_model.simplified_record).found
    assert found.nodes_after <= found.nodes_before


@pytest.mark.parametrize("name", ONNX_VARIANTS)
def test_a_variants_tensors_are_its_precision(name, tiny_model, images):
    path, record = tiny_model.variant(name)
    model, found = onnx.load(path), VariantRecord.read(record).found
    assert first_consumer(model) == ["Cast"]
    assert found.compared.cosine > 0.98
    assert found.compared.top1_agreement >= 75
    if name in FLOATS:
        assert types_of(model, "Conv") == {FLOATS[name]}
        return
    quantised = [node for node in model.graph.node if node.op_type == "DequantizeLinear"]
    kinds = {tensor.name: tensor.data_type for tensor in model.graph.initializer}
    points = {kinds[node.input[2]] for node in quantised}
    wanted = {
        "int8-cpu": {onnx.TensorProto.UINT8, onnx.TensorProto.INT8},
        "int8-tensorrt": {onnx.TensorProto.INT8},
        "fp8": {onnx.TensorProto.FLOAT8E4M3FN},
    }[name]
    assert points == wanted
    assert found.quantisation.calibration.splits == ("fit",)


@pytest.mark.parametrize("name", ["fp16", "int8-cpu", "int8-tensorrt"])
def test_a_variant_has_the_same_outputs_each_time(name, tiny_model, sample, images, tmp_path):
    first, _ = tiny_model.variant(name)
    again = tmp_path / "again.onnx"
    prepare_variant(
        name,
        tiny_model.simplified,
        tiny_model.simplified_record,
        again,
        tmp_path / "again.json",
        weights=tiny_model.weights,
        weights_record=tiny_model.weights_record,
        architecture=ARCHITECTURE,
        preprocessing=PREPROCESSING,
        manifest=sample.manifest,
        dataset_record=sample.record,
    )
    assert np.array_equal(*(checks.run(path, images, optimise=False) for path in (first, again)))


def test_a_changed_output_is_not_passed_as_simplification(tiny_model, sample, tmp_path, monkeypatch):
    import onnxsim

    def broken(model):
        changed = onnx.ModelProto.FromString(model.SerializeToString())
        weights = next(tensor for tensor in changed.graph.initializer if len(tensor.dims) == 4)
        values = onnx.numpy_helper.to_array(weights) * 1.5
        weights.CopyFrom(onnx.numpy_helper.from_array(values, weights.name))
        return changed, True

    monkeypatch.setattr(onnxsim, "simplify", broken)
    simplify_model(
        tiny_model.exported,
        tiny_model.exported_record,
        tmp_path / "x.onnx",
        tmp_path / "x.json",
        preprocessing=PREPROCESSING,
        manifest=sample.manifest,
        dataset_record=sample.record,
    )
    assert "outputs differ" in failure(SimplifiedRecord, tmp_path / "x.json")
    assert (tmp_path / "x.onnx").read_text().startswith("nothing was made: failed")


def failure(kind, record):
    """The reason of a record in the state "failed"."""
    read = kind.read(record)
    assert read.status is Status.FAILED
    return read.reason


class Trap:
    """What a checkpoint must never be able to run."""

    def __reduce__(self):
        return (print, ("code of a checkpoint ran",))


def fetched(tmp_path, source, sha256=None, architecture=ARCHITECTURE):
    out = tmp_path / "out.pth"
    fetch_weights(out, tmp_path / "out.json", url=None, file=str(source), sha256=sha256, architecture=architecture)
    return out


def test_a_local_checkpoint_is_checked_and_copied(tiny_model, tmp_path):
    digest = hashlib.sha256(tiny_model.weights.read_bytes()).hexdigest()
    out = fetched(tmp_path, tiny_model.weights, digest)
    assert out.read_bytes() == tiny_model.weights.read_bytes()
    assert WeightsRecord.read(tmp_path / "out.json").outputs["weights"].sha256 == digest


def test_a_checkpoint_with_another_digest_is_refused(tiny_model, tmp_path):
    fetched(tmp_path, tiny_model.weights, "0" * 64)
    assert f"expected is {'0' * 64}" in failure(WeightsRecord, tmp_path / "out.json")


def test_a_checkpoint_runs_no_code(tmp_path, capsys):
    torch.save({"x": Trap()}, tmp_path / "trap.pth")
    fetched(tmp_path, tmp_path / "trap.pth")
    assert "not a state dictionary" in failure(WeightsRecord, tmp_path / "out.json")
    assert "ran" not in capsys.readouterr().out


def test_a_checkpoint_of_another_architecture_is_refused(tiny_model, tmp_path):
    fetched(tmp_path, tiny_model.weights, architecture="torchvision.models.resnet18")
    reason = failure(WeightsRecord, tmp_path / "out.json")
    assert "not a state dictionary of torchvision.models.resnet18" in reason


def test_an_unknown_architecture_is_named(tiny_model, sample, tmp_path):
    export_model(
        tiny_model.weights,
        tiny_model.weights_record,
        tmp_path / "x.onnx",
        tmp_path / "x.json",
        architecture="torchvision.models.resnet51",
        preprocessing=PREPROCESSING,
        manifest=sample.manifest,
        dataset_record=sample.record,
    )
    assert "'torchvision.models.resnet51' cannot be imported" in failure(ExportedRecord, tmp_path / "x.json")


def run_without_files(kind, given, folder):
    """Run the stage that leaves a kind of record, where none of its files is there; return its record and output.

    `given` has the records of its sources by kind.
    """
    files = {name: folder / f"{name}.file" for name in KINDS}
    record = folder / f"{kind}.json"
    model = {"architecture": ARCHITECTURE}
    common = {"preprocessing": PREPROCESSING, "manifest": files["dataset"], "dataset_record": given["dataset"]}
    match kind:
        case "weights":
            fit_weights(files[kind], record, **model, **common)
        case "exported":
            export_model(files["weights"], given["weights"], files[kind], record, **model, **common)
        case "simplified":
            simplify_model(files["exported"], given["exported"], files[kind], record, **common)
        case "variant":
            checkpoint = {"weights": files["weights"], "weights_record": given["weights"]}
            sources = (files["simplified"], given["simplified"])
            prepare_variant("fp16", *sources, files[kind], record, **checkpoint, **model, **common)
    return KINDS[kind].read(record), files[kind]


@pytest.mark.parametrize(
    ("source", "stages"),
    [
        ("dataset", ["weights"]),
        ("dataset", ["exported"]),
        ("weights", ["exported"]),
        ("dataset", ["simplified"]),
        ("exported", ["simplified"]),
        ("dataset", ["variant"]),
        ("weights", ["variant"]),
        ("simplified", ["variant"]),
        ("weights", ["exported", "simplified", "variant"]),
        ("dataset", ["weights", "exported", "simplified", "variant"]),
    ],
    ids=lambda value: value if isinstance(value, str) else "-".join(value),
)
def test_the_state_of_a_source_is_passed_on(source, stages, tiny_model, sample, tmp_path):
    """A stage with a source that was not made writes down why, and in which record that arose; it does not raise."""
    state = failed("killed by SIGKILL (out of memory?)")
    given = {"dataset": sample.record} | {
        kind: getattr(tiny_model, f"{kind}_record") for kind in ("weights", "exported", "simplified")
    }
    given[source] = tmp_path / "source.json"
    KINDS[source].make(Stopwatch(), state=state).write(given[source])
    for kind in stages:
        record, output = run_without_files(kind, given, tmp_path)
        given[kind] = tmp_path / f"{kind}.json"
        assert record.state == state
        assert record.origin == source
        assert record.result is None
        assert list(record.outputs.values()) == [FileEntry.of(output)]
        assert output.read_text() == f"nothing was made: failed ({state.reason}); its record has the details\n"
