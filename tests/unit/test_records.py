"""Records and files: nothing is lost, nothing half-written is taken for whole, nothing old or foreign is misread."""

import hashlib
import json

import pytest
from support.records import Records, edit_record

from stagebench.errors import StagebenchError
from stagebench.job import retry
from stagebench.records import kinds
from stagebench.records.artifact import ChangedError
from stagebench.records.cells import InferenceRecord
from stagebench.records.data import Dataset, DatasetRecord
from stagebench.records.envelope import FileEntry, Stopwatch, header, passed_on, sealed
from stagebench.records.io import part_of, replacing, versions, write_json
from stagebench.records.models import Weights, WeightsRecord
from stagebench.vocabulary import RefusedError, Status, failed, unsupported

WEIGHTS = Weights(fetched=False, source="seed 0", architecture="net", fitting_images=None)
DATASET = Dataset(labels="sample", images=1, fitting_images=1, classes=1, bytes=1, photographs=())


def weights_record(path, **fields):
    """Write a record of weights with some of its JSON changed; None deletes a field."""
    WeightsRecord.make(Stopwatch(), result=WEIGHTS).write(path)
    raw = json.loads(path.read_text())
    for key, value in fields.items():
        raw.pop(key)
        if value is not None:
            raw[key] = value
    path.write_text(json.dumps(sealed(raw)))
    return path


def test_a_record_says_what_went_in_and_came_out(tmp_path):
    made = tmp_path / "made.bin"
    made.write_bytes(b"content")
    record = tmp_path / "made.json"
    WeightsRecord.make(Stopwatch(), result=WEIGHTS, outputs={"weights": FileEntry.of(made)}).write(record)
    read = WeightsRecord.read(record)
    assert (read.kind, read.format, read.status) == ("weights", WeightsRecord.FORMAT, Status.OK)
    assert read.found == WEIGHTS
    assert read.wall_s >= 0
    entry = read.outputs["weights"]
    assert entry == FileEntry(path=made.as_posix(), sha256=hashlib.sha256(b"content").hexdigest(), bytes=7)


def test_every_kind_of_record_is_read_as_it_was_written(tmp_path):
    made = Records(tmp_path)
    [row] = made.rows()
    for stage, path in row.records.items():
        assert kinds.KINDS[stage].read(path) == made.records[stage]


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"format": 1}, "written in format 1, this version reads format 2"),
        ({"kind": "dataset"}, "a record of kind 'dataset', not 'weights'"),
        ({"wall_s": None}, "wall_s: is missing"),
        ({"versions": {"torch": 2}}, "versions.torch: "),
        ({"result": {**WEIGHTS.model_dump(), "colour": "red"}}, "result.colour: is unknown"),
        ({"result": {"fetched": True}}, "result.source: is missing"),
        ({"status": "failed"}, "status is 'failed', but result is there"),
        ({"status": "done"}, "status: "),
        ({"result": None}, "result: is missing"),
        ({"reason": "why"}, "status is 'ok', but reason is 'why'"),
    ],
)
def test_what_is_no_record_of_this_kind_is_one_clear_line(tmp_path, fields, words):
    path = weights_record(tmp_path / "weights.json", **fields)
    with pytest.raises(StagebenchError) as refused:
        WeightsRecord.read(path)
    text = str(refused.value)
    assert words in text
    assert "\n" not in text
    assert text.startswith(str(path))
    assert text.endswith(f"delete it and run the target {path}")


def test_a_record_of_version_0_1_is_refused(tmp_path):
    """Its envelope had another format, and the figures other places."""
    path = tmp_path / "batch1.json"
    path.write_text(json.dumps({"format": 1, "kind": "inference", "status": "ok", "metrics": {"p_core": 1.0}}))
    with pytest.raises(StagebenchError, match="written in format 1, this version reads format 3; delete it and run"):
        InferenceRecord.read(path)


@pytest.mark.parametrize("text", ["", "{", "[]", '{"no": "status"}', "[" * 100_000])
def test_a_damaged_record_is_named(tmp_path, text):
    path = tmp_path / "record.json"
    path.write_text(text)
    with pytest.raises(StagebenchError, match=r"record\.json"):
        header(path)


def test_a_missing_record_names_its_target(tmp_path):
    with pytest.raises(StagebenchError, match="run the target"):
        WeightsRecord.read(tmp_path / "none.json")


def test_a_record_holds_no_nan(tmp_path):
    with pytest.raises(ValueError, match="JSON compliant"):
        write_json(tmp_path / "x.json", {"value": float("nan")})
    assert not (tmp_path / "x.json").exists()
    path = weights_record(tmp_path / "weights.json")
    edit_record(path, lambda raw: raw.update(wall_s=float("nan")))
    with pytest.raises(StagebenchError, match="wall_s"):
        WeightsRecord.read(path)


@pytest.mark.parametrize("field", ["wall_s", "finished", "result"])
def test_an_edited_record_is_refused(tmp_path, field):
    path = weights_record(tmp_path / "weights.json")
    raw = json.loads(path.read_text())
    raw[field] = {**raw["result"], "source": "seed 1"} if field == "result" else raw[field] * 2
    path.write_text(json.dumps(raw))
    with pytest.raises(ChangedError, match="edited since it was written; delete it and run the target"):
        WeightsRecord.read(path)


def test_layout_is_no_edit(tmp_path):
    path = weights_record(tmp_path / "weights.json")
    path.write_text(json.dumps(json.loads(path.read_text()), indent=4, sort_keys=True))
    assert WeightsRecord.read(path).found == WEIGHTS


def test_a_state_is_passed_on_with_its_origin_through_several_stages(tmp_path):
    broken = DatasetRecord.make(Stopwatch(), state=failed("the disk is full"))
    out, path = tmp_path / "x.pth", tmp_path / "x.json"
    assert passed_on(WeightsRecord, path, Stopwatch(), sources=[broken], outputs={"weights": out})
    weights = WeightsRecord.read(path)
    assert (weights.state, weights.origin, weights.result) == (broken.state, "dataset", None)
    assert out.read_text() == "nothing was made: failed (the disk is full); its record has the details\n"
    assert weights.outputs["weights"] == FileEntry.of(out)
    next_path = tmp_path / "y.json"
    assert passed_on(WeightsRecord, next_path, Stopwatch(), sources=[weights], outputs={})
    assert WeightsRecord.read(next_path).origin == "dataset"
    with pytest.raises(StagebenchError, match="weights: failed, there is no result"):
        _ = weights.found


def test_what_is_ok_is_not_passed_on(tmp_path):
    sound = DatasetRecord.make(Stopwatch(), result=DATASET)
    assert not passed_on(WeightsRecord, tmp_path / "x.json", Stopwatch(), sources=[sound], outputs={})
    assert not (tmp_path / "x.json").exists()


def test_a_refusal_keeps_its_state_between_processes():
    import pickle

    error = RefusedError(unsupported("no such arithmetic"))
    again = pickle.loads(pickle.dumps(error))
    assert (again.state, str(again)) == (error.state, "no such arithmetic")


def test_each_kind_has_a_format_of_its_own():
    assert kinds.format_of("inference") == InferenceRecord.FORMAT
    with pytest.raises(StagebenchError, match="unknown kind of record 'latency'"):
        kinds.format_of("latency")


def test_the_schema_accepts_what_is_written(tmp_path):
    import jsonschema

    validator = jsonschema.Draft202012Validator(json.loads(kinds.schema()))
    [row] = Records(tmp_path).rows()
    for path in row.records.values():
        validator.validate(json.loads(path.read_text()))
    raw = json.loads(row.records["inference"].read_text())
    del raw["result"]["metrics"]["p_core"]
    assert not validator.is_valid(raw)


def test_a_file_appears_only_when_it_is_whole(tmp_path):
    target = tmp_path / "deep" / "file"
    with pytest.raises(RuntimeError), replacing(target) as part:
        part.write_text("half")
        raise RuntimeError
    assert not target.exists()
    assert not part_of(target).exists()
    with replacing(target) as part:
        part.write_text("whole")
        assert not target.exists()
    assert target.read_text() == "whole"


def test_a_folder_is_replaced_whole(tmp_path):
    target = tmp_path / "images"
    for name in ("old", "new"):
        with replacing(target) as part:
            part.mkdir()
            (part / name).touch()
    assert [file.name for file in target.iterdir()] == ["new"]


def test_a_library_that_is_not_there_has_the_version_none():
    assert versions("numpy", "no-such-distribution")["no-such-distribution"] == "none"
    assert versions("numpy")["numpy"][0].isdigit()


def test_retry_forgets_what_may_work_another_time(tmp_path):
    results, resources = tmp_path / "results", tmp_path / "resources"

    def stage(record, status, *outputs):
        record.parent.mkdir(parents=True, exist_ok=True)
        entries = {output: {"path": f"elsewhere/{record.stem}{output}"} for output in outputs}
        record.write_text(json.dumps({"status": status, "outputs": entries}))
        for output in outputs:
            record.with_suffix(output).touch()
        return record

    cell = "local/m/e/fp32/batch1.json"
    failed = stage(results / "engines" / cell, "failed", ".engine")
    unavailable = stage(results / "inference" / cell, "unavailable", ".npz")
    good = stage(results / "validation" / cell, "ok", ".npz")
    weights = stage(resources / "weights/m.json", "failed", ".pth")
    model = stage(results / "models/m/exported.json", "failed", ".onnx")
    kept = resources / "weights/m.pth.part"
    kept.touch()
    assert set(retry.forget(results, resources)) == {failed, unavailable, weights, model}
    assert not failed.with_suffix(".engine").exists()
    assert not unavailable.with_suffix(".npz").exists()
    assert not weights.with_suffix(".pth").exists()
    assert kept.exists()
    assert good.exists()
    assert good.with_suffix(".npz").exists()
    assert retry.forget(results, resources) == []
