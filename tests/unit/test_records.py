"""Records and files: nothing is lost, nothing half-written is taken for whole."""

import hashlib
import json

import pytest

from stagebench import retry
from stagebench.records import (
    FORMAT,
    StagebenchError,
    Stopwatch,
    describe,
    make_record,
    output_entry,
    part_of,
    read_record,
    replacing,
    versions,
    write_json,
)


def test_a_record_tells_what_went_in_and_came_out(tmp_path):
    made = tmp_path / "made.bin"
    made.write_bytes(b"content")
    record = tmp_path / "made.json"
    write_json(record, make_record("model", watch=Stopwatch(), outputs={"onnx": describe(made)}, opset=20))
    read = read_record(record)
    assert (read["format"], read["kind"], read["status"], read["opset"]) == (FORMAT, "model", "ok", 20)
    assert read["wall_s"] >= 0
    entry = output_entry(read, "onnx")
    assert entry == {"path": made.as_posix(), "sha256": hashlib.sha256(b"content").hexdigest(), "bytes": 7}


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


@pytest.mark.parametrize("text", ["", "{", "[]", '{"no": "status"}'])
def test_a_damaged_record_is_named(tmp_path, text):
    path = tmp_path / "record.json"
    path.write_text(text)
    with pytest.raises(StagebenchError, match=r"record\.json"):
        read_record(path)


def test_a_missing_record_names_its_target(tmp_path):
    with pytest.raises(StagebenchError, match="run the target"):
        read_record(tmp_path / "none.json")


def test_a_record_holds_no_nan(tmp_path):
    with pytest.raises(ValueError, match="JSON compliant"):
        write_json(tmp_path / "x.json", {"value": float("nan")})
    assert not (tmp_path / "x.json").exists()


def test_a_library_that_is_not_there_has_the_version_none():
    assert versions("numpy", "no-such-distribution")["no-such-distribution"] == "none"
    assert versions("numpy")["numpy"][0].isdigit()


def test_retry_forgets_what_may_work_another_time(tmp_path):
    def cell(stage, status, *outputs):
        record = tmp_path / stage / "local/m/e/fp32/batch1.json"
        record.parent.mkdir(parents=True, exist_ok=True)
        record.write_text(json.dumps({"status": status}))
        for output in outputs:
            record.with_suffix(output).touch()
        return record

    failed = cell("engines", "failed", ".engine")
    unavailable = cell("inference", "unavailable", ".npz")
    good = cell("validation", "ok", ".npz")
    assert set(retry.forget(tmp_path)) == {failed, unavailable}
    assert not failed.with_suffix(".engine").exists()
    assert not unavailable.with_suffix(".npz").exists()
    assert good.exists()
    assert good.with_suffix(".npz").exists()
    assert retry.forget(tmp_path) == []
