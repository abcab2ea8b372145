"""The config: what it accepts, what it refuses and how it says so, and what is generated from it."""

import copy
import json

import pytest
import yaml

from stagebench import config_docs
from stagebench.config import Preprocessing, cells, load
from stagebench.errors import StagebenchError
from stagebench.records import kinds


@pytest.fixture
def default(repository):
    return yaml.safe_load((repository / "config/config.yaml").read_text())


def changed(raw, path, value):
    copied = copy.deepcopy(raw)
    section = copied
    *parents, last = path.split("/")
    for key in parents:
        section = section[key]
    section[last] = value
    return copied


def test_the_embedded_default_names_ten_cells_and_two_unsupported_ones(default):
    found = list(cells(load(default), ["openvino", "onnxruntime"], ["fp32", "bf16", "int8"]))
    assert len(found) == 12
    assert len(set(found)) == 12
    assert (found[0].engine, found[0].precision, found[0].batch) == ("openvino", "fp32", 1)


def test_the_overlay_for_imagenet_contains_the_two_published_rows(repository, default):
    overlay = yaml.safe_load((repository / "config/imagenet.yaml").read_text())
    config = load({**default, **overlay, "cases": {**default["cases"], **overlay["cases"]}})
    assert config.cases.models == ["resnet50"]
    assert config.cases.engines == ["tensorrt"]
    assert set(config.cases.precisions) == {"fp32", "tf32", "fp16", "bf16", "int8", "fp8"}
    assert config.cases.batch_sizes == [256]
    archive = config.datasets["imagenet"].archive
    assert archive.md5 == "29b22e2961454d5413ddabcf34fc5622"
    assert config.models["resnet50"].weights.sha256.startswith("0676ba61")


def test_the_overlay_for_absent_cards_asks_for_every_precision_and_builds_by_tensorrt_rtx(repository, default):
    overlay = yaml.safe_load((repository / "config/ahead-of-time.yaml").read_text())
    config = load({**default, **overlay, "cases": {**default["cases"], **overlay["cases"]}})
    assert config.cases.precisions == ["fp32", "tf32", "fp16", "bf16", "int8", "fp8"]
    assert {config.devices[name].compute_capability for name in config.cases.devices} == {"8.0", "8.9", "12.0"}
    assert config.cases.engines == ["tensorrt_rtx"]


@pytest.mark.parametrize(
    ("path", "value", "parts"),
    [
        ("cases/precision", ["fp32"], ["cases.precision", "unknown key", "'precisions'"]),
        ("mesurement", {}, ["mesurement", "unknown key", "'measurement'"]),
        ("datasets/sample/imags", 3, ["datasets.sample.imags", "unknown key", "'images'"]),
        ("models/resnet50/preprocessing/resise", 3, ["models.resnet50.preprocessing.resise", "'resize'"]),
        ("cases/batch_sizes", ["many"], ["cases.batch_sizes.0", "integer", "'many'"]),
        ("cases/batch_sizes", [0], ["cases.batch_sizes.0", "greater than or equal to 1"]),
        ("cases/models", ["resnet51"], ["cases.models", "unknown model 'resnet51'", "resnet50"]),
        ("cases/engines", ["openvno"], ["cases.engines", "unknown engine 'openvno'", "'openvino'"]),
        ("cases/devices", ["locl"], ["cases.devices", "unknown device 'locl'", "'local'"]),
        ("cases/precisions", ["fp23"], ["cases.precisions.0", "unknown value 'fp23'", "'fp32'"]),
        ("cases/precisions", ["fp32", "fp32"], ["cases", "precisions", "more than once"]),
        ("models/resnet50/dataset", "imagnet", ["models.resnet50.dataset", "'imagnet'", "'imagenet'"]),
        ("models/resnet50/weights", {"sha256": "0" * 64}, ["models.resnet50.weights", "neither url nor file"]),
        ("models/resnet50/preprocessing/crop", 300, ["crop (300)", "resize (256)"]),
        ("datasets/sample/subset", 500, ["datasets.sample", "subset is 500", "128"]),
        ("measurement/repeats", 0, ["measurement.repeats", "greater than or equal to 1"]),
    ],
)
def test_bad_input_gets_one_line_that_names_the_key(default, path, value, parts):
    with pytest.raises(StagebenchError) as caught:
        load(changed(default, path, value))
    text = str(caught.value)
    assert "\n" not in text
    for part in parts:
        assert part in text, text


def test_auto_is_refused_for_other_devices(default):
    raw = changed(default, "devices", {"local": {}, "a100": {"compute_capability": "8.0"}})
    raw = changed(raw, "cases/devices", ["a100"])
    with pytest.raises(StagebenchError, match="'auto' is known only for the device local"):
        load(raw)


def test_schema_and_tables_are_in_step_with_the_models(repository):
    assert (repository / config_docs.SCHEMA).read_text() == config_docs.schema(), "run `make schema`"
    assert (repository / config_docs.README).read_text() == config_docs.readme(), "run `make schema`"
    assert (repository / config_docs.RECORDS).read_text() == kinds.schema(), "run `make schema`"


def test_every_key_is_explained(repository):
    sections = json.loads((repository / config_docs.SCHEMA).read_text())["$defs"]
    for name, section in sections.items():
        for key, entry in section.get("properties", {}).items():
            assert entry.get("description"), f"{name}.{key} has no description"


def test_a_recipe_depends_on_what_changes_a_pixel_alone():
    usual = Preprocessing()
    assert usual.recipe("a") != usual.recipe("b")
    assert usual.recipe("a") != Preprocessing(resize=232).recipe("a")
    assert usual.recipe("a") == Preprocessing(mean=(0, 0, 0)).recipe("a")
