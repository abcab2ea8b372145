"""The recipes of the documents, walked for real: a metric that is one entry, an engine that lives elsewhere."""

from __future__ import annotations

import csv
import json
import re
import shutil
import sys
from pathlib import Path

import pytest
import yaml
from support.project import SMALL, Project, copy_of_repository

ROOT = Path(__file__).resolve().parent.parent.parent
METRICS = "workflow/scripts/stagebench/report/metrics.py"


@pytest.fixture
def project(finished, tmp_path) -> Project:
    """A copy with the finished one's results."""
    folder = tmp_path / "project"
    copy_of_repository(ROOT, folder)
    for name in ("results", "resources", ".snakemake"):
        shutil.copytree(finished.folder / name, folder / name, symlinks=True)
    made = Project(folder)
    made.configure()
    return made


def blocks(document: str, language: str) -> list[str]:
    """The code blocks of a document in a language."""
    return re.findall(rf"^```{language}\n(.*?)^```$", (ROOT / document).read_text(), flags=re.DOTALL | re.MULTILINE)


def rows(project: Project) -> list[dict[str, str]]:
    with (project.folder / "results/table.csv").open() as file:
        return list(csv.DictReader(file))


def test_a_metric_is_one_entry(project):
    """The entry of docs/architecture.md gives a column of the file, a column of the report, and a definition."""
    [entry] = [block for block in blocks("docs/architecture.md", "python") if "Metric(" in block]
    file = project.folder / METRICS
    before = file.read_text()
    head, mark, tail = before.partition("\n)\n\nMETRICS = ")
    assert mark
    file.write_text(f"{head}\n{entry.rstrip()},{mark}{tail}")
    assert set(project.planned()) == {"write_report"}
    done = project.run("results/report.md")
    assert done.returncode == 0, done.stdout + done.stderr
    for row in rows(project):
        path = f"results/inference/local/tiny/{row['engine']}/{row['precision']}/batch4.json"
        run = json.loads((project.folder / path).read_text())["result"]
        expected = run["metrics"]["p_core"] / len(run["settings"]["cpus"])
        assert float(row["p_infer_per_cpu"]) == pytest.approx(expected, abs=0.001)
    report = (project.folder / "results/report.md").read_text()
    assert re.search(r"^\| device .* p_infer_per_cpu +\|$", report, flags=re.MULTILINE)
    assert "* **p_infer_per_cpu** (images/s): p_infer_core over the number of CPUs" in report


def test_an_engine_may_live_outside_the_repository(project, tmp_path):
    """docs/adding-an-engine.md to the letter: a package in another folder, its options, into the report."""
    [code] = [block for block in blocks("docs/adding-an-engine.md", "python") if "ENGINE = " in block]
    package = tmp_path / "elsewhere" / "mypackage"
    package.mkdir(parents=True)
    (package / "__init__.py").touch()
    (package / "mychip.py").write_text(code)
    [named] = map(yaml.safe_load, blocks("docs/adding-an-engine.md", "yaml"))
    project.configure(**named)
    path = {"PYTHONPATH": str(package.parent)}
    done = project.run("results/report.md", environment=path)
    assert done.returncode == 0, done.stdout + done.stderr
    found = {row["precision"]: row for row in rows(project)}
    assert {name: row["status"] for name, row in found.items()} == {"fp32": "ok", "bf16": "unsupported", "int8": "ok"}
    assert found["bf16"]["note"] == "the chip has no bf16 arithmetic"
    assert float(found["fp32"]["acc_infer"]) == float(found["fp32"]["acc_val"])
    report = (project.folder / "results/report.md").read_text()
    assert re.search(r"^\* Engines: mychip \(onnxruntime [0-9.]+\)", report, flags=re.MULTILINE)
    assert "4 x Conv, 1 x Gemm" in report
    record = json.loads((project.folder / "results/inference/local/tiny/mychip/fp32/batch4.json").read_text())
    assert record["result"]["settings"]["options"] == {"threads": 2}

    assert project.planned(environment=path) == {}
    (package / "mychip.py").write_text(code.replace("self.requests = 1 ", "self.requests = 2 "))
    planned = project.planned(environment=path)
    assert set(planned) == {"build_engine", "run_inference", "write_report"}
    for rule in ("build_engine", "run_inference"):
        assert all("/mychip/" in output for output in planned[rule])
    (package / "mychip.py").write_text(code)
    project.configure(**{**named, "engines": {"mychip": {"module": "mypackage.mychip", "threads": 1}}})
    assert set(project.planned(environment=path)) == {"run_inference", "write_report"}


@pytest.mark.parametrize(
    ("section", "words"),
    [
        ({"module": "mypackage.mychip", "threds": 2}, "engines.mychip.threds: unknown key: did you mean 'threads'?"),
        ({"module": "mypackage.mychip", "threads": 0}, "engines.mychip.threads: input should be greater than"),
        ({"module": "mypackage.nothing"}, "engines.mychip.module 'mypackage.nothing' cannot be imported"),
        ({"threads": 2}, "engines.mychip: unknown engine"),
    ],
)
def test_a_mistake_about_such_an_engine_is_one_line(project, tmp_path, section, words):
    [code] = [block for block in blocks("docs/adding-an-engine.md", "python") if "ENGINE = " in block]
    (tmp_path / "mypackage").mkdir()
    (tmp_path / "mypackage/mychip.py").write_text(code)
    project.configure(cases={"engines": ["mychip"]}, engines={"mychip": section})
    done = project.run("results/report.md", "-n", environment={"PYTHONPATH": str(tmp_path)})
    assert done.returncode != 0
    output = done.stdout + done.stderr
    assert sum(words in line for line in output.splitlines()) == 1, output
    assert "Traceback" not in output


def test_two_configs_live_side_by_side_and_share_data_and_weights(project):
    other = {
        **SMALL,
        "cases": {**SMALL["cases"], "engines": ["noop"], "precisions": ["fp32"]},
        "pathvars": {"results": "results/one", "logs": "logs/one"},
    }
    (project.folder / "one.yaml").write_text(yaml.safe_dump(other))
    arguments = ("--cores", "2", "--configfile", "one.yaml")
    done = project.command(sys.executable, "-m", "snakemake", "results/one/report.md", *arguments)
    assert done.returncode == 0, done.stdout + done.stderr
    made = {path.name for path in (project.folder / "results/one").iterdir()}
    assert made == {"devices", "engines", "inference", "models", "validation", "report.md", "report.json", "table.csv"}
    assert not re.search(r"rule (make_sample|extract_dataset|decode_pixels|fit_demo_weights)", done.stderr)
    assert (project.folder / "logs/one/write_report.log").exists()
    assert project.planned() == {}
