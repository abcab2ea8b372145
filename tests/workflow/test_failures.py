"""What cannot be built or timed becomes a row, and the report comes out."""

from __future__ import annotations

import csv
import json
import sys
from pathlib import Path

import pytest
from support.project import Project, copy_of_repository

from stagebench.host import gpu

# An engine that its own kernel kills: while it builds fp32, while it runs int8; bf16 is sound.
FRAGILE = '''\
"""An engine that is killed."""

import os
import signal

from stagebench.engines.noop import NoopEngine, NoopSession


class FragileSession(NoopSession):
    killed = False

    def launch(self, k):
        if self.killed:
            os.kill(os.getpid(), signal.SIGKILL)


class FragileEngine(NoopEngine):
    def build(self, source, out, spec):
        if spec.cell.precision == "fp32":
            out.write_text("half an eng")
            os.kill(os.getpid(), signal.SIGSEGV)
        return super().build(source, out, spec)

    def load(self, engine_file, record, options):
        session = FragileSession(record.cell.batch, 224)
        session.killed = record.cell.precision == "int8"
        return session


ENGINE = FragileEngine()
'''


@pytest.fixture(scope="module")
def project(finished, tmp_path_factory) -> Project:
    """Another copy, with the finished one's data and models: only cells are made."""
    import shutil

    folder = tmp_path_factory.mktemp("failures") / "project"
    copy_of_repository(finished.folder if (finished.folder / ".git").exists() else ROOT, folder)
    for name in ("results", "resources", ".snakemake"):
        shutil.copytree(finished.folder / name, folder / name, symlinks=True)
    return Project(folder)


ROOT = Path(__file__).resolve().parent.parent.parent


def table(project: Project) -> dict[tuple[str, str, str], dict[str, str]]:
    """Rows by device, engine and precision."""
    with (project.folder / "results/table.csv").open() as file:
        return {(row["device"], row["engine"], row["precision"]): row for row in csv.DictReader(file)}


def test_a_killed_child_becomes_a_failed_row_and_the_others_go_on(project):
    (project.folder / "tests/fragile.py").write_text(FRAGILE)
    project.configure(
        cases={"engines": ["fragile", "noop"], "precisions": ["fp32", "int8"]},
        engines={"fragile": {"module": "fragile"}},
    )
    done = project.run("results/report.md")
    assert done.returncode == 0, done.stdout + done.stderr
    rows = table(project)
    building, running = rows["local", "fragile", "fp32"], rows["local", "fragile", "int8"]
    assert building["status"] == running["status"] == "failed"
    assert "killed by SIGSEGV" in building["note"]
    assert "killed by SIGKILL (out of memory?)" in running["note"]
    assert rows["local", "noop", "fp32"]["status"] == rows["local", "noop", "int8"]["status"] == "ok"
    engine = project.folder / "results/engines/local/tiny/fragile/fp32/batch4.engine"
    assert engine.read_text().startswith("nothing was made: failed (killed by SIGSEGV")
    assert json.loads(engine.with_suffix(".json").read_text())["failure"]["signal"] == "SIGSEGV"
    report = (project.folder / "results/report.md").read_text()
    assert "killed by SIGKILL" in report
    assert "2 of 4 cells were measured" in report


def test_failed_cells_are_tried_again_when_they_are_forgotten(project):
    assert project.planned() == {}
    done = project.command(sys.executable, "-m", "stagebench.job.retry", environment={"PYTHONPATH": "workflow/scripts"})
    assert done.returncode == 0, done.stderr
    assert "fragile/fp32/batch4.json" in done.stdout
    planned = project.planned()
    assert {"build_engine", "run_inference"} <= set(planned)
    assert all("/fragile/" in output for rule in ("build_engine", "run_inference") for output in planned[rule])


@pytest.mark.skipif(gpu.gpu_present(), reason="there is a GPU")
def test_tensorrt_without_a_driver_is_unavailable_and_the_report_says_why(project):
    project.configure(cases={"engines": ["tensorrt"], "precisions": ["fp32", "fp16"]})
    done = project.run("results/report.md")
    assert done.returncode == 0, done.stdout + done.stderr
    for row in table(project).values():
        assert row["status"] == "unavailable"
        assert "no CUDA driver" in row["note"]
    assert "no CUDA driver" in (project.folder / "results/report.md").read_text()


@pytest.mark.skipif(gpu.gpu_present(), reason="there is a GPU")
def test_auto_falls_back_and_says_so(project):
    project.configure(cases={"engines": ["auto"], "precisions": ["fp32"]})
    done = project.run("results/report.md")
    assert done.returncode == 0, done.stdout + done.stderr
    assert {engine for _, engine, _ in table(project)} == {"openvino", "onnxruntime"}
    text = (project.folder / "results/report.md").read_text()
    assert "`engines: auto` means openvino and onnxruntime here" in text
    assert "no CUDA driver" in text


def test_engines_for_an_absent_card_are_built_through_the_whole_chain(project):
    """fp32 builds for compute capability 8.0, fp8 is refused there in the builder's words and builds for 8.9."""
    pytest.importorskip("tensorrt_rtx")
    project.configure(
        cases={"devices": ["a100", "l40"], "engines": ["tensorrt_rtx"], "precisions": ["fp32", "fp8"]},
        devices={"local": {}, "a100": {"compute_capability": "8.0"}, "l40": {"compute_capability": "8.9"}},
    )
    done = project.run("results/report.md")
    assert done.returncode == 0, done.stdout + done.stderr
    rows = table(project)
    assert rows["a100", "tensorrt_rtx", "fp8"]["status"] == "unsupported"
    assert "fp8_e4m3" in rows["a100", "tensorrt_rtx", "fp8"]["note"]
    for device, capability, precision in (("a100", "8.0", "fp32"), ("l40", "8.9", "fp32"), ("l40", "8.9", "fp8")):
        row = rows[device, "tensorrt_rtx", precision]
        assert row["status"] == "unavailable"
        assert f"built ahead of time for GPU (compute capability {capability})" in row["note"]
        engine = project.folder / f"results/engines/{device}/tiny/tensorrt_rtx/{precision}/batch4.engine"
        record = json.loads(engine.with_suffix(".json").read_text())
        assert record["status"] == "ok"
        assert record["result"]["settings"]["target"] == capability
        assert record["outputs"]["engine"]["bytes"] == engine.stat().st_size > 10_000
        assert record["inputs"]["source"]["sha256"]
