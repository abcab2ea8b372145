"""Processes end with their job, through the real workflow: nobody lives on, and nothing is written or left behind."""

from __future__ import annotations

import contextlib
import csv
import os
import re
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import psutil
import pytest
from support.project import Project, copy_of_repository, job_of, until

ROOT = Path(__file__).resolve().parent.parent.parent
INT8 = "results/inference/local/tiny/held/int8/batch4.json"

# An engine outside the package: it says that it is being timed, and stays at that while the file `hold` exists.
HELD = '''\
"""An engine that is held."""

import time
from pathlib import Path

from stagebench.engines.noop import NoopEngine, NoopSession


class HeldSession(NoopSession):
    def repeat_resident(self, n):
        Path("timing").touch()
        while Path("hold").exists():
            time.sleep(0.01)
        return super().repeat_resident(n)


class HeldEngine(NoopEngine):
    def load(self, engine_file, record, options):
        return HeldSession(record.cell.batch, 224)


ENGINE = HeldEngine()
'''

# One that never comes back: while it builds int8, while it runs fp32. bf16 is sound.
HANGING = '''\
"""An engine that hangs."""

import threading

from stagebench.engines.noop import NoopEngine, NoopSession


class HangingSession(NoopSession):
    def wait(self, k):
        threading.Event().wait()


class HangingEngine(NoopEngine):
    def build(self, source, out, spec):
        if spec.cell.precision == "int8":
            out.write_text("half an eng")
            threading.Event().wait()
        return super().build(source, out, spec)

    def load(self, engine_file, record, options):
        kind = HangingSession if record.cell.precision == "fp32" else NoopSession
        return kind(record.cell.batch, 224)


ENGINE = HangingEngine()
'''


@pytest.fixture(scope="module")
def prepared(finished, tmp_path_factory) -> Project:
    """A copy with the finished one's data and models, in which the held engine has run in fp32."""
    folder = tmp_path_factory.mktemp("processes") / "project"
    copy_of_repository(ROOT, folder)
    for name in ("results", "resources", ".snakemake"):
        shutil.copytree(finished.folder / name, folder / name, symlinks=True)
    (folder / "tests/held.py").write_text(HELD)
    (folder / "tests/hanging.py").write_text(HANGING)
    made = Project(folder)
    configure(made, ["fp32"])
    done = made.run("results/report.md")
    assert done.returncode == 0, done.stdout + done.stderr
    return made


@pytest.fixture
def project(prepared, tmp_path) -> Project:
    """A copy of that, in which int8 is still to be measured, and held."""
    shutil.copytree(prepared.folder, tmp_path / "project", symlinks=True)
    made = Project(tmp_path / "project")
    configure(made, ["fp32", "int8"])
    (made.folder / "timing").unlink()
    (made.folder / "hold").touch()
    return made


def configure(project, precisions, **measurement):
    project.configure(
        cases={"engines": ["held"], "precisions": precisions},
        engines={"held": {"module": "held"}},
        measurement=measurement,
    )


def lives(process):
    """Whether a process runs; nobody may be there to wait for an orphan that has ended."""
    with contextlib.suppress(psutil.NoSuchProcess):
        return process.status() != psutil.STATUS_ZOMBIE
    return False


def end(processes):
    for process in processes:
        with contextlib.suppress(psutil.NoSuchProcess):
            process.kill()


@contextlib.contextmanager
def started(project):
    """Snakemake, working towards the report; nothing that it started outlives the block."""
    seen: list[psutil.Process] = []
    with (project.folder / "output.txt").open("w") as output:
        process = subprocess.Popen(
            [sys.executable, "-m", "snakemake", "--cores", "2", "results/report.md", "--configfile", "small.yaml"],
            cwd=project.folder,
            env={**os.environ, "PYTHONPATH": str(project.folder / "tests")},
            stdout=output,
            stderr=subprocess.STDOUT,
        )
        try:
            yield process, seen
        finally:
            process.kill()
            process.wait()
            end(seen)


def timed(project, snakemake, seen):
    """Wait until a cell is being timed; return the script, and add it and what it started to `seen`."""
    until((project.folder / "timing").exists, running=snakemake)
    script = job_of(snakemake, "run_inference")
    seen += [script, *script.children(recursive=True)]
    assert len(seen) > 1
    return script


def left(project):
    """Files and folders that no rule declares."""
    found = [*project.folder.joinpath("results").rglob("*.part*"), *project.folder.joinpath("results").rglob(".*")]
    return [path for path in found if path.name != ".snakemake_timestamp"]


def finish(project):
    """Let the same command finish; return the rule of each job that ran, and assert that nothing is left to do."""
    (project.folder / "hold").unlink(missing_ok=True)
    done = project.run("results/report.md")
    assert done.returncode == 0, done.stdout + done.stderr
    assert left(project) == []
    assert project.planned() == {}
    return sorted(re.findall(r"^Finished jobid: \d+ \(Rule: (\w+)\)$", done.stdout + done.stderr, flags=re.MULTILINE))


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_the_timed_child_ends_with_its_script(project, number):
    with started(project) as (snakemake, seen):
        script = timed(project, snakemake, seen)
        script.send_signal(number)
        until(lambda: not lives(script), seconds=30)
        until(lambda: not any(map(lives, seen)), seconds=2)
        assert snakemake.wait(60) != 0
    assert not (project.folder / INT8).exists()
    log = (project.folder / "logs/run_inference/local/tiny/held/int8/batch4.log").read_text()
    assert ("ended from outside (SIGTERM)" in log) == (number == signal.SIGTERM)
    assert finish(project) == ["run_inference", "write_report"]


def test_no_record_is_written_for_a_snakemake_that_was_killed(project):
    """Its orphan may go on at once and would be done within a second; it looks before it writes."""
    with started(project) as (snakemake, seen):
        script = timed(project, snakemake, seen)
        snakemake.kill()
        snakemake.wait()
        (project.folder / "hold").unlink()
        until(lambda: not any(map(lives, seen)), seconds=30)
        assert not lives(script)
    assert not (project.folder / INT8).exists()
    assert "is gone" in (project.folder / "logs/run_inference/local/tiny/held/int8/batch4.log").read_text()


def validating(project):
    """Make the next run validate, for longer than any test waits; return the record."""
    configure(project, ["fp32"], validation_repeats=1000)
    (project.folder / "hold").unlink()
    results = project.folder / "results"
    record = results / "validation/local/tiny/fp32/batch4.json"
    for path in (record, *results.glob("*.*")):  # the report and its table, too
        path.unlink()
    return record


def validated(project, snakemake, seen):
    """Wait until torch is built, in whatever folder, and timed; return the script, add it and its child to `seen`."""
    place = project.folder / "results/validation"
    until(lambda: [*place.rglob("torch.json"), *place.rglob("*.build.json")], running=snakemake)
    script = job_of(snakemake, "run_validation")
    until(script.children, running=snakemake)
    seen += [script, *script.children(recursive=True)]
    return script


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_a_validation_that_is_killed_leaves_nothing(project, number):
    record = validating(project)
    with started(project) as (snakemake, seen):
        script = validated(project, snakemake, seen)
        script.send_signal(number)
        assert snakemake.wait(60) != 0
        until(lambda: not any(map(lives, seen)), seconds=5)
    assert not record.exists()
    assert left(project) == []
    configure(project, ["fp32"])
    assert finish(project) == ["run_validation", "write_report"]
    assert sorted(path.name for path in record.parent.iterdir()) == ["batch4.json", "batch4.npz"]


@pytest.mark.parametrize("moment", [timed, validated])
def test_after_a_reboot_the_same_command_does_what_is_left(project, moment):
    if moment is validated:
        validating(project)
    with started(project) as (snakemake, seen):
        moment(project, snakemake, seen)
        end([*psutil.Process(snakemake.pid).children(recursive=True), psutil.Process(snakemake.pid)])
        snakemake.wait()
        until(lambda: not any(map(lives, seen)), seconds=30)
    locked = project.run("results/report.md")
    assert locked.returncode != 0
    assert "--unlock" in locked.stdout + locked.stderr
    assert project.run("--unlock").returncode == 0
    interrupted = "run_validation" if moment is validated else "run_inference"
    if moment is validated:
        configure(project, ["fp32"])
    assert finish(project) == [interrupted, "write_report"]


def test_an_engine_that_hangs_becomes_a_row_and_the_others_go_on(project):
    (project.folder / "hold").unlink()
    project.configure(
        cases={"engines": ["hanging", "noop"], "precisions": ["fp32", "int8", "bf16"]},
        engines={"hanging": {"module": "hanging"}},
        measurement={"timeout_s": 5},
    )
    done = project.run("results/report.md")
    assert done.returncode == 0, done.stdout + done.stderr
    with (project.folder / "results/table.csv").open() as file:
        rows = {(row["engine"], row["precision"]): row for row in csv.DictReader(file)}
    for precision in ("fp32", "int8"):
        assert rows["hanging", precision]["status"] == "failed"
        assert "no progress for 5 s (measurement.timeout_s): ended" in rows["hanging", precision]["note"]
    others = [key for key in rows if key[0] == "noop"] + [("hanging", "bf16")]
    assert [rows[key]["status"] for key in others] == ["ok"] * 4
    assert left(project) == []
