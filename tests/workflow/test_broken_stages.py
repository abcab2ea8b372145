"""A stage that breaks loses its own rows alone: the report is written by the same command and says why."""

from __future__ import annotations

import json
import re
import sys

import pytest
from support.project import Project, copy_of_finished

REPORT = "results/report.md"
# Networks that break at one stage each, each in a module of its own; it is the small network but for that.
NETWORKS = {
    "sound": """\
from support.tiny import TinyResNet


def sound():
    return TinyResNet()
""",
    "unbuildable": """\
def unbuildable():
    raise ValueError("no such network")
""",
    "unexportable": """\
import torch
from support.tiny import TinyResNet


class _Unexportable(TinyResNet):
    def forward(self, x):
        if torch.onnx.is_in_onnx_export():
            raise TypeError("an operator without a symbol")
        return super().forward(x)


def unexportable():
    return _Unexportable()
""",
    "unequal": '''\
import torch
from support.tiny import TinyResNet


class _Unequal(TinyResNet):
    """Exports another network than it computes."""

    def forward(self, x):
        found = super().forward(x)
        return found + 1 if torch.onnx.is_in_onnx_export() else found


def unequal():
    return _Unequal()
''',
    "unvalidated": '''\
from support.tiny import TinyResNet


class _Unvalidated(TinyResNet):
    """Refuses to run in validation, which opens it in a process of its own."""

    def forward(self, x):
        import multiprocessing

        if multiprocessing.parent_process() is not None:
            raise RuntimeError("refuses to be validated")
        return super().forward(x)


def unvalidated():
    return _Unvalidated()
''',
}
BROKEN = {
    "unbuildable": ("weights", "no such network"),
    "unexportable": ("exported", "TypeError: an operator without a symbol"),
    "unequal": ("exported", "outputs differ by"),
}


@pytest.fixture(scope="module")
def project(finished, tmp_path_factory) -> Project:
    """Several models in one config, most of which break."""
    made = copy_of_finished(finished, tmp_path_factory.mktemp("broken") / "project")
    for name, text in NETWORKS.items():
        (made.folder / f"tests/network_{name}.py").write_text(text)
    names = [*NETWORKS, "mismatched"]
    entries = {
        name: {"architecture": f"network_{name}.{name}", "weights": "demo", "dataset": "sample"} for name in NETWORKS
    }
    entries["mismatched"] = {
        "architecture": "network_sound.sound",
        "weights": {"file": str(made.folder / "tests/network_sound.py"), "sha256": "0" * 64},
        "dataset": "sample",
    }
    made.configure(
        cases={"models": names, "engines": ["onnxruntime"], "precisions": ["fp32"]},
        models=entries,
    )
    done = made.run(REPORT)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "Traceback" not in done.stdout + done.stderr
    return made


def row(project: Project, model: str) -> dict[str, str]:
    [found] = [row for row in project.table() if row["model"] == model]
    return found


def test_sound_models_are_measured(project):
    assert row(project, "sound")["status"] == "ok"
    assert row(project, "unvalidated")["status"] == "ok"


@pytest.mark.parametrize("model", BROKEN)
def test_a_broken_model_is_a_row_with_the_reason(project, model):
    stage, words = BROKEN[model]
    found = row(project, model)
    assert found["status"] == "failed"
    assert words in found["note"]
    text = (project.folder / REPORT).read_text()
    [line] = [
        line for line in text.splitlines() if line.startswith("| local") and f" {model} " in line and words in line
    ]
    assert f"| {stage} " in line
    place = {"weights": "resources/weights", "exported": f"results/models/{model}"}[stage]
    assert re.search(rf"-R {place}/\S+\.json", line)


def test_weights_with_another_digest_are_a_row_with_both(project):
    found = row(project, "mismatched")
    assert found["status"] == "failed"
    assert f"expected is {'0' * 64}" in found["note"]


def test_a_validation_that_breaks_leaves_the_engine_s_figures_and_says_why(project):
    found = row(project, "unvalidated")
    assert found["p_infer_core"]
    assert found["p_val_core"] == ""
    assert "validation failed: RuntimeError: refuses to be validated" in found["note"]


def test_a_plain_run_fails_after_the_report_is_written(project):
    done = project.run()
    assert done.returncode == 1
    said = done.stdout + done.stderr
    assert re.search(r"^ERROR: 4 of 6 rows failed; results/report\.md has the reasons", said, re.M), said[-2000:]
    assert (project.folder / REPORT).exists()
    assert project.run(REPORT).returncode == 0
    assert project.planned() == {}


def test_the_option_in_the_report_tries_again(project):
    networks = project.folder / "tests/network_unequal.py"
    before = networks.read_text()
    text = (project.folder / REPORT).read_text()
    [option] = set(re.findall(r"-R (results/models/unequal/\S+\.json)", text))
    networks.write_text(before.replace("return found + 1 if", "return found if"))
    try:
        done = project.run(REPORT, "-R", option)
        assert done.returncode == 0, done.stderr
        assert row(project, "unequal")["status"] == "ok"
    finally:
        networks.write_text(before)


def test_retry_forgets_models_and_weights_too(project):
    done = project.command(sys.executable, "-m", "stagebench.job.retry", environment={"PYTHONPATH": "workflow/scripts"})
    assert done.returncode == 0, done.stderr
    for name in ("resources/weights/unbuildable.json", "results/models/unexportable/exported.json"):
        assert name in done.stdout
        assert not (project.folder / name).exists()
    assert json.loads((project.folder / "results/models/sound/exported.json").read_text())["status"] == "ok"
    assert {"fit_demo_weights", "export_model", "run_inference"} <= set(project.planned())
