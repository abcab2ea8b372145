"""One contract for every registered engine: what is supported runs and gives the model's logits, the rest says why."""

from __future__ import annotations

import json

import numpy as np
import pytest

from stagebench import device, engines, records
from stagebench.dataset.manifest import validation_rows
from stagebench.engines.base import (
    PRECISIONS,
    VARIANTS,
    Engine,
    EngineUnavailableError,
    ForeignEngineError,
    Session,
    Supported,
    Unavailable,
    Unsupported,
)
from stagebench.engines.build import build_engine
from stagebench.model import checks
from stagebench.model.images import batches
from stagebench.preprocessing import Preprocessing

BATCH = 3
NAMES = engines.names()
CASES = [(name, precision) for name in NAMES for precision in PRECISIONS]


@pytest.fixture(scope="module")
def here(tmp_path_factory):
    record = tmp_path_factory.mktemp("device") / "local.json"
    device.probe("local", None, record)
    return record


@pytest.fixture(scope="module")
def images(sample):
    rows = validation_rows(sample.manifest, None)[: 4 * BATCH]
    return next(batches(sample.manifest, rows, Preprocessing(), len(rows)))


@pytest.fixture(scope="module")
def wanted(tiny_model, images):
    return checks.run(tiny_model.simplified, images)


@pytest.fixture(scope="module")
def built(tiny_model, here, tmp_path_factory):
    """A function that builds an engine once per engine and precision; returns its file and its record's path."""
    folder = tmp_path_factory.mktemp("engines")

    def build(name: str, precision: str, batch: int = BATCH):
        engine_file = folder / f"{name}-{precision}-{batch}.engine"
        record = engine_file.with_suffix(".json")
        if not record.exists():
            variant = engines.get(name).variant(precision)
            if variant == "weights":
                source, source_record = tiny_model.weights, tiny_model.weights_record
            else:
                source, source_record = tiny_model.variant(variant)
            build_engine(
                name,
                source,
                source_record,
                here,
                engine_file,
                record,
                precision=precision,
                batch=batch,
                model="tiny",
                architecture=tiny_model.architecture,
                preprocessing=tiny_model.preprocessing,
                options={},
            )
        return engine_file, record

    return build


def run(session: Session, images: np.ndarray) -> np.ndarray:
    """Send images through the ring by the contract's rules, as many in flight as the session keeps."""
    count = len(images) // BATCH
    logits = []
    launched = 0
    for done in range(count):
        while launched < count and launched - done < session.requests:
            k = launched % len(session.slots)
            session.slots[k][:] = images[launched * BATCH : (launched + 1) * BATCH]
            session.launch(k)
            launched += 1
        found, timing = session.wait(done % len(session.slots))
        assert min(timing) >= 0
        logits.append(found.copy())
    return np.concatenate(logits)


@pytest.mark.parametrize("name", NAMES)
def test_an_engine_is_found_by_the_name_of_its_file(name):
    engine = engines.get(name)
    assert isinstance(engine, Engine)
    assert engine.device_kind in ("cpu", "gpu")
    assert engine.distributions
    assert engine.version()


@pytest.mark.parametrize(("name", "precision"), CASES)
def test_support_is_an_answer_with_a_reason(name, precision, here):
    engine = engines.get(name)
    answer = engine.support(precision, records.read_record(here))
    assert isinstance(answer, Supported | Unsupported | Unavailable)
    assert isinstance(answer, Supported) or len(answer.reason) > 10
    assert engine.variant(precision) in (*VARIANTS, "weights")


@pytest.mark.parametrize(("name", "precision"), CASES)
def test_a_build_leaves_an_engine_or_a_reason(name, precision, built, here):
    engine_file, record_path = built(name, precision)
    record = records.read_record(record_path)
    answer = engines.get(name).support(precision, records.read_record(here))
    if isinstance(answer, Supported):
        assert record["status"] in ("ok", "unsupported"), record["reason"]
    else:
        assert record["status"] == {Unsupported: "unsupported", Unavailable: "unavailable"}[type(answer)]
    assert engine_file.stat().st_size == record["outputs"]["engine"]["bytes"] > 0
    if record["status"] != "ok":
        assert record["reason"]
        assert record["reason"] in engine_file.read_text()


@pytest.mark.parametrize(("name", "precision"), CASES)
def test_a_session_gives_the_models_logits(name, precision, built, images, wanted):
    engine_file, record_path = built(name, precision)
    record = records.read_record(record_path)
    if record["status"] != "ok":
        assert record["reason"]  # nothing to run: the reason is the result
        return
    with engines.get(name).open(engine_file, record, BATCH) as session:
        assert len(session.slots) == session.requests + 2
        for slot in session.slots:
            assert (slot.shape, slot.dtype) == ((BATCH, 224, 224, 3), np.uint8)
            assert slot.flags.c_contiguous
        assert session.execution["precision"] == precision
        json.dumps(session.execution)
        found = run(session, images)
        again = run(session, images)
        assert session.repeat_resident(2 * session.requests) > 0
    assert found.shape == wanted.shape
    if name == "noop":
        assert not found.any()
        return
    assert np.array_equal(found, again), "the same images gave other logits the second time"
    if precision in ("fp32", "tf32"):
        assert checks.difference(found, wanted) < checks.TOLERANCE
    agreement = checks.agreement(found[:, :16], wanted[:, :16])
    assert agreement["cosine"] > 0.95
    assert agreement["top1_agreement"] >= (100 if precision == "fp32" else 70)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda record: record["cell"].update(batch=BATCH + 1), "batch size 4 there, 3 here"),
        (lambda record: record["versions"].update(dict.fromkeys(record["versions"], "0.0")), "0.0 there"),
        (lambda record: record["device"].update(cpu="Another CPU"), "Another CPU"),
        (lambda record: record["outputs"]["engine"].update(bytes=1), "1 bytes there"),
    ],
    ids=["batch", "version", "device", "file"],
)
def test_a_foreign_engine_is_refused_with_what_differs(name, change, words, built):
    engine_file, record_path = built(name, "fp32")
    record = records.read_record(record_path)
    if record["status"] != "ok":
        assert record["status"] in ("unsupported", "unavailable")
        return
    change(record)
    with pytest.raises(ForeignEngineError, match=words):
        engines.get(name).open(engine_file, record, BATCH)


@pytest.mark.parametrize("name", NAMES)
def test_an_engine_for_an_absent_device_is_unavailable(name, built):
    engine_file, record_path = built(name, "fp32")
    record = records.read_record(record_path)
    record["device"] = device.absent("8.0")
    with pytest.raises(EngineUnavailableError):
        engines.get(name).open(engine_file, record, BATCH)


def test_an_unknown_engine_is_named_with_the_known_ones():
    with pytest.raises(records.StagebenchError, match="openvino"):
        engines.get("nothing")
