"""Two runs from scratch give the same archive, the same models and the same accuracies."""

from __future__ import annotations

import csv

from support.project import Project, copy_of_repository

from stagebench.records.io import digest

SAME = (
    "resources/sample/archive.tar",
    "results/datasets/sample/manifest.csv",
    "resources/weights/tiny.pth",
    "results/models/tiny/exported.onnx",
    "results/models/tiny/simplified.onnx",
    "results/models/tiny/fp32.onnx",
    "results/models/tiny/int8-cpu.onnx",
)


def accuracies(project: Project) -> list[tuple[str, ...]]:
    with (project.folder / "results/table.csv").open() as file:
        columns = ("engine", "precision", "bs", "acc_infer", "acc_val", "status")
        return [tuple(row[column] for column in columns) for row in csv.DictReader(file)]


def test_two_runs_from_scratch_give_the_same(finished, repository, tmp_path):
    again = Project(tmp_path / "again")
    copy_of_repository(repository, again.folder)
    again.configure()
    done = again.run("results/table.csv")
    assert done.returncode == 0, done.stdout + done.stderr
    for name in SAME:
        assert digest(again.folder / name) == digest(finished.folder / name), name
    pixels = {path.name: digest(path) for path in again.folder.glob("results/datasets/sample/pixels/*.npy")}
    assert len(pixels) == 1
    for name, wanted in pixels.items():
        assert digest(finished.folder / f"results/datasets/sample/pixels/{name}") == wanted
    assert accuracies(again) == accuracies(finished)
    assert {status for *_, status in accuracies(again)} == {"ok"}
