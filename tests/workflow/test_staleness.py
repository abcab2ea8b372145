"""What is changed | what reruns: the rules of staleness as a table.

Every line starts from the same finished run, makes one change, asks Snakemake what it would do, and takes the change
back. Libraries and hardware change from outside: through a distribution's metadata and the kernel's description of the
CPU, as they would on a real machine.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import shutil
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from stagebench.records.cells import InferenceRecord
from stagebench.records.envelope import sealed
from stagebench.records.io import digest

PACKAGE = "workflow/scripts/stagebench"
REPORT = {"write_report"}
BUILDS = {"build_engine"} | {"run_inference"} | REPORT
NOTHING: set[str] = set()
DECODES = {
    "extract_dataset",  # broken images are found there
    "decode_pixels",
    "fit_demo_weights",
    "export_model",
    "simplify_model",
    "prepare_variant",
    "run_validation",
} | BUILDS


@contextlib.contextmanager
def edited(path: Path, edit: Callable[[str], str]) -> Iterator[None]:
    """Change a file's text, and put it back with its time of modification."""
    before, times = path.read_text(), path.stat()
    after = edit(before)
    assert after != before
    path.write_text(after)
    try:
        yield
    finally:
        path.write_text(before)
        os.utime(path, ns=(times.st_atime_ns, times.st_mtime_ns))


def code(name: str) -> Callable[[Path], contextlib.AbstractContextManager[None]]:
    """Add a statement to a module: an edit that is no comment."""
    return lambda folder: edited(folder / PACKAGE / name, lambda text: f"{text}\n_EDITED = True\n")


def text(name: str, old: str, new: str) -> Callable[[Path], contextlib.AbstractContextManager[None]]:
    """Change words of a module."""
    return lambda folder: edited(folder / PACKAGE / name, lambda before: before.replace(old, new))


def config(**changes) -> Callable[[Path], contextlib.AbstractContextManager[None]]:
    """Change the config: section -> keys, merged two levels deep."""
    import yaml

    def merge(before: str) -> str:
        merged = yaml.safe_load(before)
        for section, values in changes.items():
            for key, value in values.items():
                if isinstance(value, dict):
                    merged.setdefault(section, {}).setdefault(key, {}).update(value)
                else:
                    merged.setdefault(section, {})[key] = value
        return yaml.safe_dump(merged)

    return lambda folder: edited(folder / "small.yaml", merge)


def resealed(text: str) -> str:
    """Return a record's text with the seal of what it says now."""
    return json.dumps(sealed(json.loads(text)), indent=1)


@contextlib.contextmanager
def touched(folder: Path, *roots: str) -> Iterator[None]:
    """Give every file below the roots a new time of modification, contents unchanged."""
    files = [file for root in roots for file in sorted((folder / root).rglob("*")) if file.is_file()]
    assert len(files) > 20
    times = {file: file.stat() for file in files}
    for file in files:
        os.utime(file)
    try:
        yield
    finally:
        for file, before in times.items():
            os.utime(file, ns=(before.st_atime_ns, before.st_mtime_ns))


@contextlib.contextmanager
def nothing(folder: Path) -> Iterator[None]:
    yield


@contextlib.contextmanager
def new_engine(folder: Path) -> Iterator[None]:
    """A file more in engines/."""
    added = folder / PACKAGE / "engines" / "another.py"
    shutil.copy(folder / PACKAGE / "engines" / "noop.py", added)
    try:
        yield
    finally:
        added.unlink()


@contextlib.contextmanager
def engine_file_deleted(folder: Path) -> Iterator[None]:
    file = folder / "results/engines/local/tiny/openvino/int8/batch4.engine"
    aside = file.with_name("aside")
    file.rename(aside)
    try:
        yield
    finally:
        aside.rename(file)


@dataclass(frozen=True)
class Case:
    """One line of the table."""

    change: str
    make: Callable[[Path], contextlib.AbstractContextManager[None]]
    reruns: set[str]
    #: What the outputs of the timed and building rules are called, where not all of them are made anew.
    only: str = ""


CASES = [
    Case("nothing", nothing, NOTHING),
    Case("touch of all sources", lambda folder: touched(folder, "workflow", "config"), NOTHING),
    Case("touch of all artifacts", lambda folder: touched(folder, "results", "resources"), NOTHING),
    Case(
        "an edit of dataset/decode/images.py",
        code("dataset/decode/images.py"),
        DECODES,
    ),
    Case("an edit of model/variants.py", code("model/variants.py"), {"prepare_variant"} | BUILDS),
    Case("an edit of engines/openvino.py", code("engines/openvino.py"), BUILDS, only="/openvino/"),
    Case("an edit of dataset/decode/kernels.py", code("dataset/decode/kernels.py"), DECODES),
    Case("an edit of an engine's sub-package", code("engines/torch/model.py"), {"run_validation"} | REPORT),
    Case("an edit of measure/rates.py", code("measure/rates.py"), {"run_validation", "run_inference"} | REPORT),
    Case(
        "an edit of the protocol", code("measure/protocols/stagebench.py"), {"run_validation", "run_inference"} | REPORT
    ),
    Case("an edit of records/envelope.py", code("records/envelope.py"), NOTHING),
    Case("measurement.timeout_s", config(measurement={"timeout_s": 60}), REPORT),
    Case("an edit of records/cells.py", code("records/cells.py"), NOTHING),
    Case("an edit of vocabulary.py", code("vocabulary.py"), NOTHING),
    Case("an edit of config.py", code("config.py"), NOTHING),
    Case("an edit of the package's docstring", text("__init__.py", "Stagebench:", "The benchmark:"), NOTHING),
    Case("an edit of a docstring that every stage reads", text("preprocessing.py", "one value", "a value"), NOTHING),
    Case("a comment in plumbing", text("job/stage.py", "# CUDA, too,", "# Also CUDA"), NOTHING),
    Case("a comment in an engine", text("engines/openvino.py", "# Layers of", "# The layers of"), NOTHING),
    Case("what the environment is read from", code("host/environment.py"), NOTHING),
    Case(
        "a label of the report's environment block",
        text("report/environment.py", '"CUDA driver"', '"CUDA of the driver"'),
        REPORT,
    ),
    Case("an edit of report/render/markdown.py", code("report/render/markdown.py"), REPORT),
    Case("an edit of report/metrics.py", code("report/metrics.py"), REPORT),
    Case("a new engine file", new_engine, NOTHING),
    Case(
        "a precision added",
        config(cases={"precisions": ["fp32", "int8", "bf16"]}),
        {"prepare_variant", "run_validation"} | BUILDS,
        only="bf16",
    ),
    Case("a precision removed", config(cases={"precisions": ["fp32"]}), REPORT),
    Case("a batch size added", config(cases={"batch_sizes": [4, 2]}), {"run_validation"} | BUILDS, only="/batch2[.]"),
    Case("repeats changed", config(measurement={"repeats": 2}), {"run_inference"} | REPORT),
    Case("pixels switched off", config(datasets={"sample": {"pixels": False}}), {"run_inference"} | REPORT),
    Case("one engine file deleted", engine_file_deleted, NOTHING),
]


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.change)
def test_what_reruns(finished, case):
    with case.make(finished.folder):
        planned = finished.planned()
    assert set(planned) == case.reruns
    for rule in ("build_engine", "run_inference", "run_validation", "prepare_variant"):
        for output in planned.get(rule, []):
            assert re.search(case.only, output), f"{rule}: {output}"


def raised(kind: str) -> Callable[[str], str]:
    """Raise the format of one kind of record by one, in its module's text."""

    def edit(before: str) -> str:
        head, mark, rest = before.partition(f'KIND: ClassVar[str] = "{kind}"')
        return (
            head
            + mark
            + re.sub(r"(?<=FORMAT: ClassVar\[int\] = )\d+", lambda found: f"{int(found[0]) + 1}", rest, count=1)
        )

    return edit


@pytest.mark.parametrize(
    ("module", "kind", "reruns"),
    [
        ("cells", "inference", {"run_inference"} | REPORT),
        ("cells", "validation", {"run_validation"} | REPORT),
        ("cells", "engine", BUILDS),
        ("models", "variant", {"prepare_variant"} | BUILDS),
    ],
)
def test_a_raised_format_reruns_the_rule_that_writes_the_kind_and_what_follows(finished, module, kind, reruns):
    with edited(finished.folder / PACKAGE / f"records/{module}.py", raised(kind)):
        assert set(finished.planned()) == reruns


def test_a_record_of_another_format_is_refused_in_one_line(finished):
    """Without its rule, which would rerun: `--allowed-rules` plans the report alone."""
    record = finished.folder / "results/inference/local/tiny/openvino/int8/batch4.json"
    now, before = f'"format": {InferenceRecord.FORMAT}', '"format": 1'
    with edited(record, lambda content: content.replace(now, before)):
        done = finished.run("results/table.csv", "--forcerun", "write_report", "--allowed-rules", "write_report")
        assert [row["status"] for row in finished.table()].count("failed") == 1
    output = done.stdout + done.stderr
    reads = f"written in format 1, this version reads format {InferenceRecord.FORMAT}"
    assert f"batch4.json: {reads}; delete it and run the target" in output
    assert "Traceback" not in output
    assert finished.run("results/report.md", "--forcerun", "write_report").returncode == 0
    assert {row["status"] for row in finished.table()} == {"ok"}


def test_swapping_two_numbers_of_the_config_reruns_what_they_are_parameters_of(finished):
    """Snakemake compares parameters as a set of values: plain numbers would be the same set after a swap."""
    with config(measurement={"repeats": 1, "cached_repeats": 2})(finished.folder):
        done = finished.run("results/report.md")
        assert done.returncode == 0, done.stderr
        assert finished.planned() == {}
        with config(measurement={"repeats": 2, "cached_repeats": 1})(finished.folder):
            assert set(finished.planned()) == {"run_inference"} | REPORT
    assert finished.run("results/report.md").returncode == 0
    assert finished.planned() == {}


def test_a_dry_run_says_in_a_line_per_group_what_changed(finished):
    with config(measurement={"repeats": 2})(finished.folder):
        done = finished.run("results/report.md", "-n", "--quiet", "progress")
    output = done.stdout + done.stderr
    reasons = [line for line in output.splitlines() if "Params have changed" in line or "settings " in line]
    assert reasons
    assert max(map(len, reasons)) < 400, reasons


def test_a_deleted_engine_file_is_built_again_as_a_target_or_for_its_inference(finished):
    engine = "results/engines/local/tiny/openvino/int8/batch4.engine"
    with engine_file_deleted(finished.folder):
        assert set(finished.planned(engine)) == {"build_engine"}
        assert finished.planned("results/inference/local/tiny/openvino/int8/batch4.json") == {}
        row = "results/inference/local/tiny/openvino/int8/batch4.json"
        assert {"build_engine", "run_inference"} <= set(finished.planned("results/report.md", "--forcerun", row))


def test_a_changed_checksum_reruns_the_download_and_all_that_follows(finished, tmp_path):
    """A data set with an archive: the expected MD5 is a parameter of the download."""
    archive = finished.folder / "resources/sample/archive.tar"
    entry = {
        "archive": {"path": str(archive), "md5": digest(archive, "md5")},
        "labels": "sample",
        "images": 32,
        "pixels": False,
    }
    with config(datasets={"copied": entry})(finished.folder):
        done = finished.run("results/datasets/copied/manifest.csv")
        assert done.returncode == 0, done.stderr
        assert finished.planned("results/datasets/copied/manifest.csv") == {}
    entry["archive"]["md5"] = "0" * 32
    with config(datasets={"copied": entry})(finished.folder):
        planned = finished.planned("results/datasets/copied/manifest.csv")
        assert set(planned) == {"download_archive", "extract_dataset"}
        done = finished.run("results/datasets/copied/manifest.csv")
        assert done.returncode != 0
        assert "0" * 32 in done.stderr + done.stdout
        assert digest(archive, "md5") in done.stderr + done.stdout


def test_another_version_of_an_engine_library_reruns_its_cells(finished, tmp_path):
    """A distribution's metadata found before the installed one tells another version."""
    fake = tmp_path / "onnxruntime-0.0.1.dist-info"
    fake.mkdir()
    (fake / "METADATA").write_text("Metadata-Version: 2.1\nName: onnxruntime\nVersion: 0.0.1\n")
    planned = finished.planned(environment={"PYTHONPATH": str(tmp_path)})
    assert set(planned) == BUILDS
    for rule in ("build_engine", "run_inference"):
        assert all("/onnxruntime/" in output for output in planned[rule])


def test_other_hardware_reruns_what_depends_on_the_machine(finished, tmp_path):
    """The kernel tells of another CPU: the device is probed again, engines and figures follow, models stay."""
    (tmp_path / "sitecustomize.py").write_text(
        "import pathlib\n"
        "_read = pathlib.Path.read_text\n"
        "def read_text(self, *args, **kwargs):\n"
        "    text = _read(self, *args, **kwargs)\n"
        "    other = text.replace('model name\\t: ', 'model name\\t: Another ')\n"
        "    return other if str(self) == '/proc/cpuinfo' else text\n"
        "pathlib.Path.read_text = read_text\n"
    )
    planned = finished.planned(environment={"PYTHONPATH": str(tmp_path)})
    assert set(planned) == {"probe_device", "run_validation"} | BUILDS


def test_a_reboot_that_leaves_other_memory_reruns_nothing(finished, tmp_path):
    """Kernels keep some KiB more or less: it is the machine that the device's record describes."""
    (tmp_path / "sitecustomize.py").write_text(
        "import psutil\n"
        "_read = psutil.virtual_memory\n"
        "psutil.virtual_memory = lambda: _read()._replace(total=_read().total - 4096)\n"
    )
    assert finished.planned(environment={"PYTHONPATH": str(tmp_path)}) == {}
    (tmp_path / "sitecustomize.py").write_text(
        "import psutil\n"
        "_read = psutil.virtual_memory\n"
        "psutil.virtual_memory = lambda: _read()._replace(total=_read().total // 2)\n"
    )
    assert "probe_device" in finished.planned(environment={"PYTHONPATH": str(tmp_path)})


def test_a_job_on_other_hardware_than_recorded_is_refused(finished):
    """On a cluster the device's record is held: a timed job compares it with the machine it got, CPUs included."""
    record = finished.folder / "results/devices/local.json"
    with edited(record, lambda text: resealed(re.sub(r'"cpu_count": \d+', '"cpu_count": 4096', text))):
        done = finished.command(
            sys.executable,
            "-c",
            "from pathlib import Path; from stagebench.host import identity\n"
            "from stagebench.records.cells import DeviceRecord\n"
            "path = Path('results/devices/local.json')\n"
            "identity.require_same(DeviceRecord.read(path), path, timed=True)",
            environment={"PYTHONPATH": str(finished.folder / "workflow/scripts")},
        )
    assert done.returncode != 0
    assert "4096 CPUs" in done.stderr.strip().splitlines()[-1]
    assert "different: cpu_count" in done.stderr.strip().splitlines()[-1]
