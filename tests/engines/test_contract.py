"""One contract for every registered engine: what is supported runs and gives the model's logits, the rest says why."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest
from support.records import edit_record
from support.ring import run
from support.stages import engine_builder

from stagebench.dataset.manifest import validation_rows
from stagebench.engines import base, registry
from stagebench.engines.base import Engine
from stagebench.engines.ownership import ForeignEngineError
from stagebench.errors import StagebenchError
from stagebench.host import identity
from stagebench.model import checks
from stagebench.model.batches import batches
from stagebench.preprocessing import Preprocessing
from stagebench.records.artifact import ChangedError
from stagebench.records.cells import EngineRecord, Execution
from stagebench.vocabulary import CHECKPOINT, ONNX_VARIANTS, PRECISIONS, Precision, RefusedError, State, Status

BATCH = 3
NAMES = registry.names()
CASES = [(name, precision) for name in NAMES for precision in PRECISIONS]


@pytest.fixture(scope="module")
def images(sample):
    rows = validation_rows(sample.manifest, None)[: 4 * BATCH]
    return next(batches(sample.manifest, rows, Preprocessing(), len(rows)))


@pytest.fixture(scope="module")
def wanted(tiny_model, images):
    return checks.run(tiny_model.simplified, images)


@pytest.fixture(scope="module")
def built(tiny_model, tmp_path_factory):
    """A function that builds an engine, once per engine and precision; returns its file and its record."""
    build = engine_builder(tiny_model, tmp_path_factory.mktemp("engines"))
    made = {}

    def once(name: str, precision: str):
        if (name, precision) not in made:
            made[name, precision] = build(name, precision, BATCH)
        return made[name, precision].file, made[name, precision].record

    return once


@pytest.mark.parametrize("name", NAMES)
def test_an_engine_is_found_by_the_name_of_its_module(name):
    engine = registry.get(name)
    assert isinstance(engine, Engine)
    assert engine.device_kind in ("cpu", "gpu")
    assert engine.distributions
    assert engine.version()
    assert set(engine.variants) <= set(PRECISIONS)


@pytest.mark.parametrize(("name", "precision"), CASES)
def test_support_is_an_answer_with_a_reason(name, precision):
    engine = registry.get(name)
    answer = engine.support(PRECISIONS[precision], identity.identity())
    assert isinstance(answer, State)
    assert answer.status in (Status.OK, Status.UNSUPPORTED, Status.UNAVAILABLE)
    assert answer.ok or len(answer.reason) > 10
    assert engine.variant(precision) in (*ONNX_VARIANTS, CHECKPOINT, None)
    assert engine.variant(precision) is not None or not answer.ok


@pytest.mark.parametrize("name", NAMES)
def test_an_unknown_precision_is_an_error(name):
    with pytest.raises(StagebenchError, match="unknown precision 'int4'"):
        registry.get(name).variant("int4")


@pytest.mark.parametrize("name", [name for name in NAMES if name != "noop"])
def test_a_precision_that_the_vocabulary_gains_is_no_silent_fp32(name, monkeypatch):
    """An engine that says nothing of a precision has no model file for it, and no support."""
    added = Precision("int4", "int4", "fp32")
    monkeypatch.setitem(PRECISIONS, "int4", added)
    engine = registry.get(name)
    assert engine.variant("int4") is None
    if engine.device_kind == "cpu":
        assert engine.support(added, identity.identity()).status is Status.UNSUPPORTED


@pytest.mark.parametrize(("name", "precision"), CASES)
def test_a_build_leaves_an_engine_or_a_reason(name, precision, built):
    engine_file, record = built(name, precision)
    answer = registry.get(name).support(PRECISIONS[precision], identity.identity())
    if answer.ok:
        assert record.status in (Status.OK, Status.UNSUPPORTED), record.reason
    else:
        assert record.state == answer
    assert engine_file.stat().st_size == record.outputs["engine"].bytes > 0
    assert record.environment.kernel
    if not record.ok:
        assert record.reason
        assert record.reason in engine_file.read_text()


@pytest.mark.parametrize(("name", "precision"), CASES)
def test_a_session_gives_the_models_logits(name, precision, built, images, wanted):
    engine_file, record = built(name, precision)
    if not record.ok:
        assert record.reason  # nothing to run: the reason is the result
        return
    with registry.get(name).open(engine_file, record) as session:
        assert len(session.slots) == session.ring(session.requests, BATCH) >= session.requests + 2
        for slot in session.slots:
            assert (slot.shape, slot.dtype) == ((BATCH, 224, 224, 3), np.uint8)
            assert slot.flags.c_contiguous
        assert isinstance(session.execution, Execution)
        assert session.execution.executed or not session.execution.computes
        assert Execution.model_validate_json(session.execution.model_dump_json()) == session.execution
        found, timings = run(session, images)
        again, _ = run(session, images)
        assert session.repeat_resident(2 * session.requests) > 0
    assert min(min(timing) for timing in timings) >= 0
    assert found.shape == wanted.shape
    if name == "noop":
        assert not found.any()
        return
    assert np.array_equal(found, again), "the same images gave other logits the second time"
    if precision in ("fp32", "tf32"):
        assert checks.difference(found, wanted) < checks.TOLERANCE
    agreement = checks.agreement(found[:, :16], wanted[:, :16], "fp32")
    assert agreement.cosine > 0.95
    assert agreement.top1_agreement >= (100 if precision == "fp32" else 70)


@pytest.mark.parametrize("name", NAMES)
def test_a_ring_keeps_many_threads_busy_whatever_the_batch_size(name, built, images, monkeypatch):
    """As if there were 16 CPUs: at a batch size of 3, eleven slots hold two images for each."""
    engine_file, record = built(name, "fp32")
    if not record.ok:
        assert record.reason
        return
    with registry.get(name).open(engine_file, record) as session:
        wanted, _ = run(session, images)
    monkeypatch.setattr(base, "cpus", SimpleNamespace(usable=lambda: 16))
    with registry.get(name).open(engine_file, record) as session:
        assert len(session.slots) == session.requests + 11
        assert np.array_equal(run(session, images)[0], wanted)
        assert np.array_equal(run(session, np.concatenate([images] * 4))[0], np.concatenate([wanted] * 4))


def with_size(record: EngineRecord, size: int) -> EngineRecord:
    entry = record.outputs["engine"].model_copy(update={"bytes": size})
    return record.model_copy(update={"outputs": {"engine": entry}})


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda record: record.model_copy(update={"versions": dict.fromkeys(record.versions, "0.0")}), "0.0 there"),
        (
            lambda record: record.model_copy(
                update={"device": record.device.model_copy(update={"cpu": "Another CPU"})}
            ),
            "Another CPU",
        ),
        (lambda record: with_size(record, 1), "1 bytes there"),
    ],
    ids=["version", "device", "file"],
)
def test_a_foreign_engine_is_refused_with_what_differs(name, change, words, built):
    engine_file, record = built(name, "fp32")
    if not record.ok:
        assert record.status in (Status.UNSUPPORTED, Status.UNAVAILABLE)
        return
    with pytest.raises((ForeignEngineError, ChangedError), match=words):
        registry.get(name).open(engine_file, change(record))


@pytest.mark.parametrize("name", NAMES)
def test_an_engine_for_an_absent_device_is_unavailable(name, built):
    engine_file, record = built(name, "fp32")
    elsewhere = record.model_copy(update={"device": identity.absent("8.0")})
    with pytest.raises(RefusedError) as refused:
        registry.get(name).open(engine_file, elsewhere)
    assert refused.value.state.status is Status.UNAVAILABLE


def test_an_unknown_engine_is_named_with_the_known_ones():
    with pytest.raises(StagebenchError, match="openvino"):
        registry.get("nothing")


@pytest.mark.parametrize("name", ["openvino", "onnxruntime"])
def test_weights_that_would_overflow_on_a_cpu_are_unsupported_and_the_key_is_named(
    name, tiny_model, tmp_path, monkeypatch
):
    """Seven bits do not overflow: then the same machine builds."""
    monkeypatch.setattr(identity, "_cpu", lambda: ("an old processor", ["avx2"]))
    record = engine_builder(tiny_model, tmp_path)(name, "int8", BATCH).record
    assert record.status is Status.UNSUPPORTED
    assert "overflow on an old processor" in record.reason
    assert record.reason.endswith("set models.tiny.quantization.weight_bits to 7")
    original = tiny_model.variant("int8-cpu")[1]
    seven = tmp_path / "seven.json"
    seven.write_text(original.read_text())
    edit_record(seven, lambda raw: raw["result"]["quantisation"].update(weight_bits=7))
    file = tiny_model.variant("int8-cpu")[0]
    tiny = SimpleNamespace(**vars(tiny_model) | {"variant": lambda _: (file, seven)})
    (tmp_path / "seven").mkdir()
    assert engine_builder(tiny, tmp_path / "seven")(name, "int8", BATCH).record.status is Status.OK
