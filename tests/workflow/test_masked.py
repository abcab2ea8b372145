"""A failed rerun never looks done: the same command fails again or heals, and no old report stands meanwhile."""

from __future__ import annotations

import hashlib
import os
import shutil
import signal
import subprocess
import sys

import pytest
from support.project import Project, copy_of_finished, until

REPORT = "results/report.md"


@pytest.fixture
def project(finished, tmp_path) -> Project:
    return copy_of_finished(finished, tmp_path / "project")


def image(project: Project):
    [*_, last] = sorted((project.folder / "results/datasets/sample/images").rglob("*_val_*"))
    return last


def inference_records(project: Project) -> list:
    return sorted((project.folder / "results/inference").rglob("*.json"))


def fail_with_other_settings(project: Project) -> None:
    """Run with other settings and a missing image: every inference job fails."""
    moved = image(project)
    aside = project.folder / "aside"
    moved.rename(aside)
    project.configure(measurement={"repeats": 2})
    done = project.run(REPORT)
    assert done.returncode != 0
    assert inference_records(project) == []
    assert not (project.folder / REPORT).exists(), "the report of an earlier config stayed"
    assert not (project.folder / "results/table.csv").exists()
    aside.rename(moved)
    project.configure()


def assert_heals(project: Project) -> None:
    done = project.run(REPORT)
    assert done.returncode == 0, done.stderr
    assert len(inference_records(project)) == 4
    assert {row["status"] for row in project.table()} == {"ok"}
    assert project.planned() == {}, "healing costs a second run"


def test_a_failure_is_not_masked_when_the_edit_is_taken_back(project):
    fail_with_other_settings(project)
    assert_heals(project)


def test_a_failure_is_not_masked_by_touch(project):
    fail_with_other_settings(project)
    done = project.run(REPORT, "--touch")
    if done.returncode == 0:
        assert project.planned() != {}
    assert_heals(project)


def test_a_date_in_the_future_is_told_before_anything_is_lost(project):
    manifest = project.folder / "results/datasets/sample/manifest.csv"
    times = manifest.stat()
    os.utime(manifest, (4e9, 4e9))
    done = project.run(REPORT, "-R", "run_inference")
    said = done.stdout + done.stderr
    assert done.returncode != 0
    assert "results/datasets/sample/manifest.csv: is dated 2096-10-02, which is in the future; touch it" in said
    assert "Traceback" not in said
    assert len(inference_records(project)) == 4
    assert (project.folder / REPORT).exists()
    os.utime(manifest, ns=(times.st_atime_ns, times.st_mtime_ns))
    assert project.planned() == {}


def test_touch_does_not_pass_old_figures_off_as_those_of_an_edited_config(project):
    project.configure(measurement={"repeats": 2})
    assert project.run(REPORT, "--touch").returncode == 0
    done = project.run(REPORT)
    assert done.returncode == 0, done.stderr
    rows = project.table()
    assert {row["status"] for row in rows} == {"failed"}
    for row in rows:
        assert "made with other settings than the config gives now; delete it and run the target" in row["note"]
    assert project.run().returncode != 0
    for record in inference_records(project):
        record.unlink()
    assert_heals(project)


def test_a_failure_is_not_masked_in_a_copy(project, tmp_path):
    fail_with_other_settings(project)
    shutil.copytree(project.folder, tmp_path / "copy", symlinks=True)
    assert_heals(Project(tmp_path / "copy"))


def test_a_kill_is_not_masked_when_the_edit_is_taken_back(project):
    project.configure(measurement={"repeats": 100000})
    command = [sys.executable, "-m", "snakemake", "--cores", "2", REPORT, "--configfile", "small.yaml"]
    environment = {**os.environ, "PYTHONPATH": str(project.folder / "tests")}
    with subprocess.Popen(
        command, cwd=project.folder, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    ) as snakemake:
        until(lambda: len(inference_records(project)) < 4, snakemake)
        snakemake.send_signal(signal.SIGKILL)
    assert not (project.folder / REPORT).exists()
    project.configure()
    done = project.run(REPORT)
    if "--unlock" in done.stderr + done.stdout:
        assert project.run("--unlock").returncode == 0
    assert_heals(project)


@pytest.mark.parametrize("kind", ["inference", "validation", "engines", "models"])
def test_a_record_deleted_by_hand_is_made_again_in_one_run(project, kind):
    record = sorted((project.folder / "results" / kind).rglob("*.json"))[0]
    record.unlink()
    done = project.run(REPORT)
    assert done.returncode == 0, done.stderr
    assert record.exists()
    assert project.planned() == {}


def test_a_report_names_its_config_and_follows_every_change_of_it(project):
    def named() -> str:
        text = (project.folder / REPORT).read_text()
        return text.split("config with sha256 ")[1].split(".")[0]

    before = named()
    assert len(before) == len(hashlib.sha256().hexdigest()[:16])
    entry = {"architecture": "support.tiny.tiny_resnet", "weights": "demo", "dataset": "sample"}
    project.configure(models={"tiny": {**entry, "expected": {"top1": 90.0, "top5": 99.0}}})
    assert set(project.planned()) == {"write_report"}
    assert project.run(REPORT).returncode == 0
    after = named()
    assert after != before
    project.configure()
    assert project.run(REPORT).returncode == 0
    assert named() == before


def test_a_plain_run_makes_every_record(project):
    for record in inference_records(project):
        record.unlink()
    done = project.run()
    assert done.returncode == 0, done.stderr
    assert len(inference_records(project)) == 4
