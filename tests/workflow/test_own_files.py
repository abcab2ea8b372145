"""The user's own files: a checkpoint, an architecture and a folder of images. What is changed | what reruns.

The table's lines plan from one finished run, as in test_staleness; what heals is really run, in a copy of that.
"""

from __future__ import annotations

import contextlib
import os
import re
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
import yaml
from support.project import SMALL, Project, copy_of_repository

from stagebench.dataset.manifest import read_manifest
from stagebench.records.io import digest

REPORT = {"write_report"}
CELLS = {"build_engine", "run_inference", "run_validation"} | REPORT
MODEL = {"export_model", "simplify_model", "prepare_variant"} | CELLS
NOTHING: set[str] = set()

# The tests' small network as a user's own package: its module, a helper, and a distribution that the helper imports.
NET = "from mynet.parts import network\n\n\ndef make():\n    return network()\n"
PARTS = (
    "import yaml\nfrom support.tiny import TinyResNet\n\n\ndef network():\n    assert yaml\n    return TinyResNet()\n"
)
ENGINES = ["onnxruntime", "torch"]


@pytest.fixture(scope="module")
def own(finished, repository, tmp_path_factory) -> Project:
    """A project with a model and a data set of the user's own beside those of the finished run, all of it run."""
    folder = tmp_path_factory.mktemp("own") / "project"
    copy_of_repository(repository, folder)
    for name in ("results", "resources", ".snakemake"):
        shutil.copytree(finished.folder / name, folder / name, symlinks=True)
    shutil.copy(folder / "resources/weights/tiny.pth", folder / "mine.pth")
    shutil.copytree(folder / "results/datasets/sample/images", folder / "photographs")
    for name, text in {"__init__": "", "net": NET, "parts": PARTS}.items():
        (folder / "tests/mynet").mkdir(exist_ok=True)
        (folder / f"tests/mynet/{name}.py").write_text(text)
    project = Project(folder)
    configure(project)
    done = project.run("results/report.md")
    assert done.returncode == 0, done.stdout + done.stderr
    assert project.planned() == {}
    return project


def configure(project: Project, **changes) -> None:
    """Write the config, with keys of the model `mine` changed."""
    mine = {"architecture": "mynet.net.make", "weights": {"file": "mine.pth"}, "dataset": "photographs", **changes}
    project.configure(
        cases={"models": ["tiny", "mine"], "engines": ENGINES, "precisions": ["fp32"]},
        models={**SMALL["models"], "mine": mine},
        datasets={
            **SMALL["datasets"],
            "photographs": {"archive": {"path": "photographs"}, "labels": "sample", "images": 32},
        },
    )


@contextlib.contextmanager
def restored(*paths: Path) -> Iterator[None]:
    """Put files back as they were, or delete what was not there."""
    before = {path: (path.read_bytes(), path.stat()) for path in paths if path.exists()}
    try:
        yield
    finally:
        for path in paths:
            if path in before:
                data, found = before[path]
                path.write_bytes(data)
                os.utime(path, ns=(found.st_atime_ns, found.st_mtime_ns))
            else:
                path.unlink(missing_ok=True)


def file(name: str, change: Callable[[Path], object]) -> Callable[[Path], contextlib.AbstractContextManager[None]]:
    """Change a file of the project for as long as the context lasts."""

    @contextlib.contextmanager
    def changed(folder: Path) -> Iterator[None]:
        with restored(folder / name):
            change(folder / name)
            yield

    return changed


def longer(path: Path) -> None:
    path.write_bytes(path.read_bytes() + b"\n")


def longer_with_an_old_time(path: Path) -> None:
    longer(path)
    os.utime(path, (0, 0))


def code(path: Path) -> None:
    path.write_text(path.read_text() + "\nEDITED = True\n")


def comment(path: Path) -> None:
    path.write_text("# A remark.\n" + path.read_text() + '\n"""A remark."""\n')


IMAGE = "photographs/brick/sample_val_00000002.JPEG"
ANOTHER = "photographs/brick/another.JPEG"
LINKED = {"link_dataset", "decode_pixels"} | MODEL


@dataclass(frozen=True)
class Case:
    """One line of the table; of the rules that are made for models, only those of the model `mine` rerun."""

    change: str
    make: Callable[[Path], contextlib.AbstractContextManager[None]]
    reruns: set[str]


CASES = [
    Case("the checkpoint overwritten in place", file("mine.pth", longer), {"fetch_weights"} | MODEL),
    Case("a checkpoint with an old time", file("mine.pth", longer_with_an_old_time), {"fetch_weights"} | MODEL),
    Case("a touch of the checkpoint", file("mine.pth", Path.touch), NOTHING),
    Case("an edit of the architecture", file("tests/mynet/net.py", code), MODEL),
    Case("an edit of a module that it imports", file("tests/mynet/parts.py", code), MODEL),
    Case("a comment in the architecture", file("tests/mynet/net.py", comment), NOTHING),
    Case("an image replaced", file(IMAGE, longer), LINKED),
    Case("an image removed", file(IMAGE, Path.unlink), LINKED),
    Case("an image added", file(ANOTHER, lambda path: path.write_bytes(b"")), LINKED),
    Case("a hidden file added", file("photographs/.DS_Store", lambda path: path.write_bytes(b"")), NOTHING),
]


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.change)
def test_what_reruns(own, case):
    with case.make(own.folder):
        planned = own.planned()
    assert set(planned) == case.reruns
    others = [output for outputs in planned.values() for output in outputs if "/tiny" in output or "/sample" in output]
    assert others == []


def test_another_version_of_a_distribution_that_the_architecture_imports_reruns_its_model(own, tmp_path):
    fake = tmp_path / "pyyaml-0.0.1.dist-info"
    fake.mkdir()
    (fake / "METADATA").write_text("Metadata-Version: 2.1\nName: PyYAML\nVersion: 0.0.1\n")
    planned = own.planned(environment={"PYTHONPATH": str(tmp_path)})
    assert set(planned) == MODEL
    assert not any("/tiny" in output for outputs in planned.values() for output in outputs)


def test_an_architecture_that_is_not_found_leaves_other_models_alone(own):
    """Planning goes on, and the job says what is missing."""
    with restored(own.folder / "small.yaml"):
        configure(own, architecture="nowhere.make")
        assert own.planned("results/models/tiny/fp32.onnx") == {}
        assert "export_model" in own.planned()
        done = own.run("results/models/mine/exported.onnx", "--forcerun", "export_model", "-n")
        assert done.returncode == 0, done.stderr
        assert "Traceback" not in done.stdout + done.stderr


def test_a_broken_module_leaves_other_models_alone(own):
    with restored(own.folder / "tests/mynet/parts.py"):
        (own.folder / "tests/mynet/parts.py").write_text("def network(:\n")
        planned = own.planned()
    assert set(planned) == MODEL
    assert not any("/tiny" in output for outputs in planned.values() for output in outputs)


@pytest.mark.parametrize(
    ("change", "key"),
    [
        ({"models": {"mine": {"weights": {"file": "gone.pth"}}}}, "models.mine.weights.file: gone.pth"),
        ({"models": {"mine": {"weights": {"url": "file:///gone.pth"}}}}, "models.mine.weights.url: /gone.pth"),
        ({"datasets": {"photographs": {"archive": {"path": "gone"}}}}, "datasets.photographs.archive.path: gone"),
        ({"datasets": {"photographs": {"devkit": "gone.tar.gz"}}}, "datasets.photographs.devkit: gone.tar.gz"),
    ],
    ids=["checkpoint", "address", "folder", "devkit"],
)
def test_a_file_that_is_not_there_is_told_by_its_key_while_the_config_is_read(own, change, key):
    config = own.folder / "small.yaml"
    with restored(config):
        merged = yaml.safe_load(config.read_text())
        for section, entries in change.items():
            for name, values in entries.items():
                merged[section][name].update(values)
        config.write_text(yaml.safe_dump(merged))
        done = own.run("-n")
        assert done.returncode != 0
        assert f"config: {key}: no such file; correct the path" in done.stdout + done.stderr
        assert "Traceback" not in done.stdout + done.stderr
        merged["cases"]["models"] = ["tiny"]  # another model is not the case's concern
        config.write_text(yaml.safe_dump(merged))
        assert own.run("-n").returncode == 0


@pytest.fixture
def changed(own, tmp_path) -> Project:
    """A copy in which things may be run."""
    copy = tmp_path / "project"
    shutil.copytree(own.folder, copy, symlinks=True)
    for link in (copy / "results/datasets/photographs/images").rglob("*.JPEG"):  # they are absolute
        target = copy / link.readlink().relative_to(own.folder)
        link.unlink()
        link.symlink_to(target)
    return Project(copy)


MANIFEST = "results/datasets/photographs/manifest.csv"
PIXELS = "results/datasets/photographs/pixels"


def rows(project: Project) -> dict[str, str]:
    return {row.path.rpartition("/")[2]: row.sha256 for row in read_manifest(project.folder / MANIFEST)}


def swap(image: Path, other: Path) -> None:
    """Put another image of the same size there, with the time of modification that was."""
    found, data = image.stat(), other.read_bytes()
    assert len(data) < found.st_size, "what is filled up stays an image"
    image.write_bytes(data + bytes(found.st_size - len(data)))
    os.utime(image, ns=(found.st_atime_ns, found.st_mtime_ns))


def small_and_large(folder: Path) -> tuple[Path, Path]:
    by_size = sorted((folder / "photographs").rglob("*_val_*"), key=lambda path: path.stat().st_size)
    return by_size[0], by_size[-1]


def ran(project: Project) -> set[str]:
    """Make the report; return the rules that ran for it."""
    done = project.run("results/report.md")
    assert done.returncode == 0, done.stdout + done.stderr
    return set(re.findall(r"Finished jobid: \d+ \(Rule: (\w+)\)", done.stdout + done.stderr))


def test_a_replaced_image_ends_in_a_new_manifest_and_new_pixels(changed):
    small, large = small_and_large(changed.folder)
    before, pixels = rows(changed), next((changed.folder / PIXELS).glob("*.npy"))
    decoded = digest(pixels)
    large.write_bytes(small.read_bytes())
    assert ran(changed) == LINKED
    assert rows(changed) == {**before, large.name: digest(small)}
    assert digest(pixels) != decoded
    assert changed.planned() == {}


def test_an_image_that_was_only_touched_is_linked_anew_and_nothing_follows_but_the_report(changed):
    small, _ = small_and_large(changed.folder)
    before = rows(changed)
    small.touch()
    assert ran(changed) == {"link_dataset"} | REPORT
    assert rows(changed) == before
    assert changed.planned() == {}


def test_an_image_replaced_behind_the_back_is_found_while_decoding_and_what_is_told_heals(changed):
    small, large = small_and_large(changed.folder)
    before, pixels = rows(changed), next((changed.folder / PIXELS).glob("*.npy"))
    swap(large, small)
    target = str(pixels.relative_to(changed.folder))
    assert changed.planned(target) == {}
    pixels.unlink()
    failed = changed.run(target)
    output = failed.stdout + failed.stderr
    linked = f"results/datasets/photographs/images/{large.parent.name}/{large.name}"
    assert failed.returncode != 0
    assert f"{linked} (other contents than its manifest describes)" in output
    assert f"then delete {MANIFEST} and run the target {MANIFEST}" in output
    assert "Traceback" not in output
    (changed.folder / MANIFEST).unlink()
    done = changed.run(target)
    assert done.returncode == 0, done.stdout + done.stderr
    assert rows(changed) == {**before, large.name: digest(large)}


def test_a_removed_image_is_one_line_wherever_it_is_missed(changed):
    """In relinking by default; and where the folder is not looked at again, in decoding and in the timed passes."""
    _, large = small_and_large(changed.folder)
    large.unlink()
    done = changed.run("results/report.md")
    output = done.stdout + done.stderr
    assert done.returncode != 0
    assert "photographs: holds 31 validation images, but datasets.*.images expects 32" in output
    assert "Traceback" not in output


@pytest.mark.parametrize("rule", ["run_inference", "run_validation", "export_model"])
def test_a_stage_that_misses_an_image_says_so_in_one_line(changed, rule):
    target = {
        "run_inference": "results/inference/local/mine/onnxruntime/fp32/batch4.json",
        "run_validation": "results/validation/local/mine/fp32/batch4.json",
        "export_model": "results/models/mine/exported.onnx",
    }[rule]
    images = changed.folder / "results/datasets/photographs/images"
    linked = next(images.rglob("sample_val_00000001.JPEG"))
    linked.unlink()
    done = changed.run(target, "--forcerun", rule, "--allowed-rules", rule)
    output = done.stdout + done.stderr
    assert done.returncode != 0
    reason = ": cannot be read" if rule == "export_model" else " is missing"  # timed runs look before they start
    told = [line for line in output.splitlines() if f"{linked.relative_to(changed.folder)}{reason}" in line]
    assert told
    assert all(line.endswith(f"delete {MANIFEST} and run the target {MANIFEST}") for line in told), told
    assert "Traceback" not in output


def test_an_archive_is_watched_while_it_is_there_and_not_missed_when_it_was_extracted(changed):
    config, archive = changed.folder / "small.yaml", changed.folder / "mine.tar"
    recipe = next((changed.folder / PIXELS).glob("*.npy")).name
    target, chain = f"results/datasets/packed/pixels/{recipe}", {"download_archive", "extract_dataset", "decode_pixels"}
    shutil.copy(changed.folder / "resources/sample/archive.tar", archive)
    merged = yaml.safe_load(config.read_text())
    merged["datasets"]["packed"] = {"archive": {"path": "mine.tar"}, "labels": "sample", "images": 32}
    merged["models"]["mine"]["dataset"] = "packed"
    config.write_text(yaml.safe_dump(merged))
    done = changed.run(target)
    assert done.returncode == 0, done.stdout + done.stderr
    assert changed.planned(target) == {}
    archive.touch()
    assert changed.planned(target) == {}
    with restored(archive):
        archive.write_bytes(archive.read_bytes() + bytes(512))
        os.utime(archive, (0, 0))
        assert set(changed.planned(target)) == chain
    archive.unlink()
    assert changed.planned(target) == {}
    merged["datasets"]["packed"]["archive"]["path"] = "another.tar"
    config.write_text(yaml.safe_dump(merged))
    done = changed.run(target, "-n")
    assert done.returncode != 0
    assert "config: datasets.packed.archive.path: another.tar: no such file; correct" in done.stdout + done.stderr


def test_a_quantised_file_of_ones_own_is_watched_by_its_contents(own):
    target, file = "results/models/mine/int8-cpu.onnx", own.folder / "mine.onnx"
    shutil.copy(own.folder / "results/models/tiny/int8-cpu.onnx", file)
    configure(own, prepared={"int8": {"file": "mine.onnx"}})
    try:
        done = own.run(target)
        assert done.returncode == 0, done.stdout + done.stderr
        assert digest(own.folder / target) == digest(file)
        assert own.planned(target) == {}
        file.touch()
        assert own.planned(target) == {}
        with restored(file):
            longer_with_an_old_time(file)
            assert set(own.planned(target)) == {"prepare_variant"}
        file.unlink()
        done = own.run(target, "-n")
        assert done.returncode != 0
        assert "config: models.mine.prepared.int8.file: mine.onnx: " in done.stdout + done.stderr
    finally:
        configure(own)
