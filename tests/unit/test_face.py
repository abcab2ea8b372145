"""What a visitor sees first: README's generated parts, its links, the citation, the issue forms, the CI workflow."""

from __future__ import annotations

import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
import yaml
from support.project import copy_of_repository

ROOT = Path(__file__).resolve().parent.parent.parent
README = (ROOT / "README.md").read_text()
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
DOCUMENTS = sorted(path for pattern in ("*.md", "docs/*.md", "*/README.md") for path in ROOT.glob(pattern))
FORMS = sorted(path for path in ROOT.glob(".github/ISSUE_TEMPLATE/*.yml") if path.name != "config.yml")
MARKED = "# Title\n\n<!-- rows: begin -->\nold\n<!-- rows: end -->\n\nThe end.\n"


def between_marks(name: str) -> str:
    return re.search(rf"<!-- {name}: begin -->\n(.*?)<!-- {name}: end -->", README, flags=re.DOTALL)[1]


def tool(script: Path, *arguments: object) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, script, *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)


def rule_names(folder: Path) -> set[str]:
    """The rules of the embedded default, from Snakemake's other form of the graph."""
    command = [sys.executable, "-m", "snakemake", "--rulegraph", "dot", "results/report.md"]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=300, check=True)
    return set(re.findall(r'label = "(\w+)', done.stdout)) - {"all"}


@pytest.fixture(scope="module")
def redrawn(tmp_path_factory) -> Path:
    """A copy of the project in which `make diagram` has run."""
    folder = tmp_path_factory.mktemp("face") / "project"
    copy_of_repository(ROOT, folder)
    done = tool(folder / "tools/diagram.py")
    assert done.returncode == 0, done.stderr
    return folder


@pytest.mark.parametrize("name", ["README.md", "docs/assets/chain.mmd"])
def test_the_diagram_is_that_of_the_rules(redrawn, name):
    assert (redrawn / name).read_text() == (ROOT / name).read_text(), "run `make diagram`"


def test_the_diagram_names_exactly_the_rules_of_the_embedded_default(redrawn):
    assert set(re.findall(r"\b[a-z]+_[a-z_]+\b", between_marks("chain"))) == rule_names(redrawn)


@pytest.fixture
def finished(tmp_path) -> Path:
    """A folder with a document, and results of two engines in two precisions at two batch sizes."""
    lines = ["device,model,engine,precision,bs,p_infer_whole,p_infer_core,acc_infer,status"]
    for engine in ("openvino", "onnxruntime", "torch"):
        for batch in (1, 16):
            lines += [
                f"local,demo,{engine},fp32,{batch},{batch}.25,1234.5,95.3125,ok",
                f"local,demo,{engine},bf16,{batch},,,,unsupported",
            ]
    (tmp_path / "table.csv").write_text("\n".join(lines) + "\n")
    (tmp_path / "report.md").write_text("## Environment\n\n* Machine: none\n* CPU: Some CPU, 4 CPUs usable of 8\n")
    (tmp_path / "README.md").write_text(MARKED)
    return tmp_path


def written_rows(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    where = ("--results", folder, "--readme", folder / "README.md")
    return tool(ROOT / "tools/readme_rows.py", *where, *arguments)


def test_rows_of_a_report_are_written_between_the_marks(finished):
    done = written_rows(finished)
    assert done.returncode == 0, done.stderr
    text = (finished / "README.md").read_text()
    assert [line for line in text.splitlines() if line.startswith("| local")] == [
        "| local | openvino | fp32 | 16 | 16.2 | 1234 | 95.312 |",
        "| local | openvino | bf16 | 16 | unsupported | - | - |",
        "| local | onnxruntime | fp32 | 16 | 16.2 | 1234 | 95.312 |",
        "| local | onnxruntime | bf16 | 16 | unsupported | - | - |",
        "| local | torch | fp32 | 16 | 16.2 | 1234 | 95.312 |",
    ]
    assert "`demo` on Some CPU, 4 CPUs usable of 8;" in text
    assert "old" not in text
    assert text.endswith("<!-- rows: end -->\n\nThe end.\n")
    assert written_rows(finished).returncode == 0
    assert (finished / "README.md").read_text() == text


def test_of_several_environments_the_first_names_the_cpu(finished):
    block = "|      | local (1)        | local (2) |\n| ---- | --- | --- |\n| CPU  | Some CPU, 4 of 8 | Other     |\n"
    (finished / "report.md").write_text(f"## Environment\n\n{block}")
    assert written_rows(finished).returncode == 0
    assert "`demo` on Some CPU, 4 of 8;" in (finished / "README.md").read_text()


def test_the_name_of_the_cpu_can_be_given(finished):
    (finished / "report.md").unlink()
    assert "give its name with --cpu" in written_rows(finished).stderr
    assert written_rows(finished, "--cpu", "Another").returncode == 0
    assert "`demo` on Another;" in (finished / "README.md").read_text()


@pytest.mark.parametrize(
    ("missing", "said"), [("table.csv", "run `make report` first"), ("README.md", "'<!-- rows: begin -->'")]
)
def test_what_is_missing_is_said_in_one_line(finished, missing, said):
    if missing == "README.md":
        (finished / missing).write_text("# Title\n")
    else:
        (finished / missing).unlink()
    done = written_rows(finished)
    assert done.returncode != 0
    assert said in done.stderr
    assert len(done.stderr.splitlines()) == 1


def test_readme_shows_five_rows_with_their_cpu():
    lines = between_marks("rows").strip().splitlines()
    assert lines[0] == "| device | engine | precision | bs | p_infer_whole | p_infer_core | acc_infer |"
    assert sum(line.startswith("|") for line in lines) == 2 + 5
    assert re.fullmatch(r"`[\w-]+` on .+; rates in images/s, accuracy \(top-1\) in %\.", lines[-1])


def test_the_table_of_systems_has_every_python_that_the_project_takes():
    rows = [line.strip("| ").split(" | ") for line in between_marks("systems").splitlines() if line.startswith("| 3")]
    pythons = {row[0] for row in rows}
    assert {(row[0], row[1]) for row in rows} == {(each, on) for each in pythons for on in ("x86-64", "aarch64")}
    lowest, over = (int(minor) for minor in re.findall(r"3\.(\d+)", PROJECT["requires-python"]))
    assert pythons == {f"3.{minor}" for minor in range(lowest, over)}
    assert [row[:2] for row in rows if row[-1] == "tested"] == [["3.11", "x86-64"]]


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_links_inside_the_repository_lead_somewhere(document):
    for target in re.findall(r"\]\(([^)#\s]+)", document.read_text()):
        assert "://" in target or (document.parent / target).exists(), f"{document.name}: {target}"


def test_each_term_of_the_glossary_has_one_meaning():
    rows = [line.strip("| ").split(" | ") for line in (ROOT / "docs/glossary.md").read_text().splitlines()]
    terms = [row[0] for row in rows if len(row) == 2][1:]
    assert len(terms) > 40
    assert len(set(terms)) == len(terms)


def test_the_citation_is_complete_and_that_of_this_version():
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text())
    assert {"cff-version", "message", "title", "version", "license", "authors"} <= set(citation)
    assert citation["cff-version"] == "1.2.0"
    assert (citation["version"], citation["license"]) == (PROJECT["version"], PROJECT["license"])
    assert all(author["name"] for author in citation["authors"])


@pytest.mark.parametrize("form", FORMS, ids=lambda path: path.name)
def test_an_issue_form_is_one_that_github_takes(form):
    content = yaml.safe_load(form.read_text())
    assert {"name", "description", "body"} <= set(content) <= {"name", "description", "body", "labels", "title"}
    fields = [element for element in content["body"] if element["type"] != "markdown"]
    assert {element["type"] for element in fields} <= {"input", "textarea", "dropdown", "checkboxes"}
    assert all(element["attributes"]["label"] for element in fields)
    assert len({element["id"] for element in fields}) == len(fields) > 0
    assert all(element["attributes"]["value"] for element in content["body"] if element["type"] == "markdown")


def test_there_is_a_form_for_bugs_and_one_for_results():
    assert [form.name for form in FORMS] == ["bug.yml", "results.yml"]
    assert yaml.safe_load((ROOT / ".github/ISSUE_TEMPLATE/config.yml").read_text()) == {"blank_issues_enabled": True}


def test_the_workflow_on_github_runs_what_has_to_pass():
    workflow = yaml.safe_load((ROOT / ".github/workflows/ci.yml").read_text())
    assert workflow["permissions"] == {"contents": "read"}
    assert workflow["concurrency"]["cancel-in-progress"] is True
    (job,) = workflow["jobs"].values()
    assert (job["runs-on"], job["timeout-minutes"]) == ("ubuntu-latest", 90)
    used = [step["uses"] for step in job["steps"] if "uses" in step]
    assert all(re.fullmatch(r"actions/[a-z-]+@v\d+", action) for action in used)
    assert [step["run"] for step in job["steps"] if "run" in step] == ["bash .ci/run"]
