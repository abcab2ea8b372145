"""The cluster, and the projects that run on it side by side."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cluster as slurm
import pytest
import yaml
from support.project import Project, copy_of_repository
from support.stages import PREPROCESSING

# The embedded default with as many cells as fit a test: both engines, with and without quantisation.
REDUCED = {"cases": {"precisions": ["fp32", "int8"], "batch_sizes": [16]}}


def pytest_collection_modifyitems(items):
    if os.geteuid() == 0 and shutil.which("apt-get"):
        return
    for item in items:
        if item.get_closest_marker("slurm"):
            item.add_marker(pytest.mark.skip(reason="needs root on Debian"))


@dataclass
class ClusterProject(Project):
    """A checkout whose jobs go to the cluster by the Slurm profile, edited as a user would."""

    cluster: slurm.Cluster
    config: str = "small.yaml"

    def edit_profile(self, edit: Callable[[dict[str, Any]], None] = lambda profile: None) -> None:
        """Write the project's Slurm profile anew: the shipped one with `edit` applied."""
        shipped = Path(__file__).resolve().parent.parent.parent / "profiles/slurm/profile.yaml"
        profile = yaml.safe_load(shipped.read_text())
        # The devices' partitions, and the CPUs of the smallest node: what is marked EDIT there.
        for rule in ("probe_device", "run_inference", "run_validation", "build_engine"):
            profile["set-resources"][rule]["slurm_partition"] = "{'other': 'other'}.get(wildcards.device, 'main')"
        profile["max-threads"] = 1
        # Shorter polling, and no network file system.
        profile["slurm-init-seconds-before-status-checks"] = 1
        profile["latency-wait"] = 5
        edit(profile)
        (self.folder / "profiles/slurm/profile.yaml").write_text(yaml.safe_dump(profile, sort_keys=False))

    def two_devices(self, **changes: Any) -> None:
        """Configure the small network on two devices, which the one node serves under two names."""
        cases = {"devices": ["local", "other"], "engines": ["onnxruntime"], "precisions": ["fp32"]}
        changes["cases"] = {**cases, **changes.get("cases", {})}
        scratch = self.folder / "scratch"
        scratch.mkdir(exist_ok=True)
        self.configure(devices={"local": {}, "other": {"local_scratch": str(scratch)}}, **changes)

    def submit(self, *arguments: str) -> Run:
        """Start Snakemake with the Slurm profile and return at once."""
        return start(self.folder, *arguments, "--workflow-profile", "profiles/slurm", "--configfile", self.config)

    def jobs(self, rule: str | None = None) -> list[slurm.SlurmJob]:
        """Return Slurm's records of this project's jobs."""
        mine = [job for job in self.cluster.jobs() if job["WorkDir"] == str(self.folder)]
        return [job for job in mine if rule in (None, job.rule)]


@dataclass
class Run:
    """Snakemake at work; as a context manager it ends with the block, so that a test that fails disturbs no other."""

    process: subprocess.Popen[bytes]
    log: Path

    def __enter__(self) -> Run:
        return self

    def __exit__(self, *_: object) -> None:
        self.end()

    def finish(self, seconds: float = slurm.PATIENCE_S) -> str:
        """Wait until it ends well and return what it said."""
        assert self.wait(seconds) == 0, self.log.read_text()[-6000:]
        return self.log.read_text()

    def wait(self, seconds: float = slurm.PATIENCE_S) -> int:
        """Wait until it ends and return its exit status; what hangs is interrupted, and says what it did."""
        try:
            return self.process.wait(seconds)
        except subprocess.TimeoutExpired:
            self.end()
            pytest.fail(f"Snakemake does not end:\n{self.log.read_text()[-6000:]}")

    def interrupt(self, seconds: float = 60) -> int:
        """Send SIGINT, as Ctrl-C does, and wait."""
        self.process.send_signal(signal.SIGINT)
        return self.process.wait(seconds)

    def end(self) -> None:
        """Interrupt it if it still runs."""
        if self.process.poll() is None:
            self.interrupt()


def start(folder: Path, *arguments: str, before: tuple[str, ...] = ()) -> Run:
    """Start Snakemake in a project and return at once."""
    log = folder / "snakemake.log"
    with log.open("w") as file:
        process = subprocess.Popen(
            [*before, sys.executable, "-m", "snakemake", *arguments],
            cwd=folder,
            env={**os.environ, "PYTHONPATH": str(folder / "tests")},
            stdout=file,
            stderr=subprocess.STDOUT,
        )
    return Run(process, log)


@pytest.fixture(scope="session")
def cluster(tmp_path_factory) -> Iterator[slurm.Cluster]:
    with slurm.running(tmp_path_factory.mktemp("cluster") / "slurm") as started:
        yield started


def project_in(folder: Path, repository: Path, cluster: slurm.Cluster, config: str) -> ClusterProject:
    copy_of_repository(repository, folder)
    project = ClusterProject(folder, cluster, config)
    project.edit_profile()
    return project


@pytest.fixture(scope="session")
def default_run(repository, cluster, tmp_path_factory) -> tuple[ClusterProject, Run]:
    """The embedded default on its way through the cluster while the other tests run."""
    project = project_in(tmp_path_factory.mktemp("default") / "project", repository, cluster, "reduced.yaml")
    (project.folder / project.config).write_text(yaml.safe_dump(REDUCED))
    run = project.submit("results/report.md")
    yield project, run
    run.end()


@pytest.fixture(scope="session")
def local_run(repository, tmp_path_factory) -> Iterator[tuple[Project, Run]]:
    """The same on this machine without a scheduler, at a low priority beside the cluster's jobs."""
    project = Project(tmp_path_factory.mktemp("local") / "project")
    copy_of_repository(repository, project.folder)
    (project.folder / "reduced.yaml").write_text(yaml.safe_dump(REDUCED))
    limits = ["--cores", str(os.cpu_count()), "--max-threads", "1"]
    run = start(project.folder, "results/report.md", *limits, "--configfile", "reduced.yaml", before=("nice", "-n19"))
    yield project, run
    run.end()


@pytest.fixture(scope="session")
def prepared(repository, cluster, tmp_path_factory) -> ClusterProject:
    """A project of a small network whose data and model are prepared: what is left is what devices do."""
    project = project_in(tmp_path_factory.mktemp("tiny") / "project", repository, cluster, "small.yaml")
    project.two_devices()
    done = project.run("results/models/tiny/fp32.onnx", *pixels_of(project))
    assert done.returncode == 0, done.stdout + done.stderr
    return project


@pytest.fixture(scope="session")
def gpu_run(prepared, tmp_path_factory) -> Iterator[tuple[ClusterProject, Run]]:
    """Two cells of an engine for GPUs, on the way through the cluster, too."""
    folder = tmp_path_factory.mktemp("gpu") / "project"
    shutil.copytree(prepared.folder, folder, symlinks=True)
    project = ClusterProject(folder, prepared.cluster)
    project.configure(cases={"engines": ["tensorrt"], "precisions": ["fp32"], "batch_sizes": [4, 8]})
    project.edit_profile(group_cells)
    run = project.submit(*(f"results/inference/local/tiny/tensorrt/fp32/batch{batch}.json" for batch in (4, 8)))
    yield project, run
    run.end()


def group_cells(profile: dict[str, Any]) -> None:
    """Edit the profile as it says: one Slurm job builds and measures two cells."""
    profile["set-resources"]["build_engine"] = profile["set-resources"]["run_inference"]
    profile |= {"groups": {"build_engine": "cells", "run_inference": "cells"}, "group-components": {"cells": 2}}


@pytest.fixture(scope="session")
def tiny(prepared, default_run, gpu_run, local_run) -> ClusterProject:
    """The project that the tests work with, while the other ones are under way."""
    return prepared


def pixels_of(project: ClusterProject) -> list[str]:
    from stagebench.dataset.decode.images import DECODER

    return [f"results/datasets/sample/pixels/{PREPROCESSING.recipe(DECODER)}.npy"]
