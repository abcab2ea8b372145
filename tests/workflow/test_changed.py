"""What is used is checked where it is used: each kind of file and record, changed behind the workflow's back.

A change is an error or a refused row that names the file to delete and the target to run, and doing so heals.
"""

from __future__ import annotations

import csv
import json
import os
import re
import shutil
from pathlib import Path

import numpy as np
import pytest
from support.project import Project, copy_of_finished
from support.records import edit_record

from stagebench.records.io import digest

MODEL = "results/models/tiny"
ROW = "local/tiny/openvino/int8/batch4"
REPORT = "results/report.md"


@pytest.fixture(scope="module")
def clean(finished, tmp_path_factory) -> Project:
    return copy_of_finished(finished, tmp_path_factory.mktemp("changed") / "project")


def flip(path: Path) -> None:
    """Flip one bit in the middle of a file, and put its time of modification back."""
    times = path.stat()
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)
    os.utime(path, ns=(times.st_atime_ns, times.st_mtime_ns))


def shift_labels(path: Path) -> None:
    """Give every image of a manifest the label of the one before it."""
    with path.open(newline="") as file:
        header, *rows = csv.reader(file)
    labels = [row[1] for row in rows]
    with path.open("w", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(header)
        writer.writerows([row[0], label, *row[2:]] for row, label in zip(rows, labels[-1:] + labels, strict=False))


def zero_pixels(path: Path) -> None:
    """Blacken the decoded images."""
    pixels = np.load(path)
    np.save(path, np.zeros_like(pixels))


def roll_classes(path: Path) -> None:
    """Roll the classes of an ONNX file's last layer by one: a valid model with other answers."""
    import onnx

    model = onnx.load(path)
    for tensor in model.graph.initializer:
        if 1000 in tensor.dims:
            values = onnx.numpy_helper.to_array(tensor)
            rolled = np.roll(values, 1, axis=list(tensor.dims).index(1000))
            tensor.CopyFrom(onnx.numpy_helper.from_array(rolled, tensor.name))
    onnx.save(model, path)


# changed file -> how; what is made anew so that it is read again.
FILES = {
    "resources/sample/archive.tar": (flip, "extract_dataset"),
    "results/datasets/sample/manifest.csv": (shift_labels, "run_inference"),
    "results/datasets/sample/pixels/*.npy": (zero_pixels, "run_inference"),
    "resources/weights/tiny.pth": (flip, "export_model"),
    f"{MODEL}/exported.onnx": (roll_classes, "simplify_model"),
    f"{MODEL}/fp32.onnx": (flip, "build_engine"),
}


@pytest.mark.parametrize("pattern", FILES)
def test_a_changed_file_is_an_error_that_says_how_to_heal_it(clean, pattern):
    change, consumer = FILES[pattern]
    [path] = clean.folder.glob(pattern)
    name = str(path.relative_to(clean.folder))
    before = digest(path)
    change(path)
    assert digest(path) != before
    done = clean.run(REPORT, "--forcerun", consumer, "--keep-going")
    said = done.stdout + done.stderr
    assert done.returncode != 0
    line = re.search(rf"^ERROR: {re.escape(name)}: changed since .*; delete it and run the target (\S+)$", said, re.M)
    assert line, said[-3000:]
    assert "Traceback" not in said
    (clean.folder / name).unlink()
    done = clean.run(line[1], REPORT)
    assert done.returncode == 0, done.stdout + done.stderr
    assert digest(path) == before
    assert {row["status"] for row in clean.table()} == {"ok"}


@pytest.mark.parametrize("exchange", [True, False], ids=["exchanged", "removed"])
def test_images_that_are_not_the_manifest_s_are_one_line(clean, exchange):
    manifest = "results/datasets/sample/manifest.csv"
    with (clean.folder / manifest).open(newline="") as file:
        images = [clean.folder / "results/datasets/sample" / row["path"] for row in csv.DictReader(file)]
    first, other = [path for path in images if "_val_" in path.name][:2]
    kept = first.read_bytes()
    if exchange:
        first.write_bytes(other.read_bytes())
    else:
        first.unlink()
    done = clean.run(REPORT, "--forcerun", "run_inference")
    said = done.stdout + done.stderr
    assert done.returncode != 0
    assert re.search(rf"^ERROR: {manifest}: images are not those that it describes: \S*{first.name} ", said, re.M), said
    assert f"delete {manifest} and run the target {manifest}" in said
    assert "Traceback" not in said
    (clean.folder / manifest).unlink()
    done = clean.run(manifest, REPORT)
    assert done.returncode == 0, done.stdout + done.stderr
    assert first.read_bytes() == kept


def other_engine_s(clean: Project, record: Path) -> None:
    shutil.copy(clean.folder / "results/inference/local/tiny/onnxruntime/int8/batch4.json", record)


def figure(clean: Project, record: Path) -> None:
    raw = json.loads(record.read_text())
    raw["result"]["metrics"]["top1"] = 12.345
    record.write_text(json.dumps(raw))


def not_a_number(clean: Project, record: Path) -> None:
    edit_record(record, lambda raw: raw["result"]["metrics"].update(p_core=float("nan")))


@pytest.mark.parametrize("change", [other_engine_s, figure, not_a_number], ids=lambda change: change.__name__)
def test_a_changed_record_takes_its_row_out_of_the_report(clean, change):
    record = clean.folder / f"results/inference/{ROW}.json"
    change(clean, record)
    done = clean.run(REPORT)
    assert done.returncode == 0, done.stderr
    assert f"results/inference/{ROW}.json" in done.stderr + done.stdout
    rows = clean.table()
    assert [row["status"] for row in rows].count("failed") == 1
    [refused] = [row for row in rows if row["status"] == "failed"]
    assert (refused["engine"], refused["precision"], refused["p_infer_core"]) == ("openvino", "int8", "")
    assert f"delete it and run the target results/inference/{ROW}.json" in refused["note"]
    assert clean.run().returncode != 0, "a plain run takes a refused row for a finished one"
    record.unlink()
    done = clean.run(f"results/inference/{ROW}.json", "all")
    assert done.returncode == 0, done.stderr
    assert {row["status"] for row in clean.table()} == {"ok"}


@pytest.mark.parametrize("name", ["results/table.csv", "results/report.md", "results/report.json"])
def test_an_edited_report_is_written_again(clean, name):
    path = clean.folder / name
    path.write_text(path.read_text().replace("openvino", "ours") + "\n")
    done = clean.run(REPORT)
    assert done.returncode == 0, done.stderr
    assert "ours" not in path.read_text()
    assert clean.planned() == {}


def test_a_file_is_read_once_while_it_stays_as_it_is(clean):
    """What it costs to compare is recorded: almost nothing where producer and consumer agree on the file's state."""
    records = [json.loads(path.read_text()) for path in clean.folder.glob("re*/**/*.json")]
    found = [record for record in records if "checked_s" in record]
    assert len(found) > 10
    assert sum(record["checked_s"] for record in found) > 0
    facts = len(list((clean.folder / ".snakemake/stagebench-proofs").iterdir()))
    done = clean.run(REPORT, "--forcerun", "run_inference")
    assert done.returncode == 0, done.stderr
    added = len(list((clean.folder / ".snakemake/stagebench-proofs").iterdir())) - facts
    # New are the samples of four cells and the report's files.
    assert added <= 8
