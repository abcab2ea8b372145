"""Every Snakemake command of the documents runs, as a dry run, in a fresh checkout."""

from __future__ import annotations

import re
import shlex
import sys
from pathlib import Path

import pytest
from support.project import Project, copy_of_repository

ROOT = Path(__file__).resolve().parent.parent.parent
DOCUMENTS = sorted(
    [
        ROOT / "README.md",
        ROOT / "profiles/README.md",
        ROOT / "config/README.md",
        ROOT / "CONTRIBUTING.md",
        *ROOT.glob("docs/*.md"),
    ]
)
# Files that the documents tell a user to write.
WRITTEN_BY_USERS = {
    "mine.yaml": "datasets: {imagenet: {archive: {path: ILSVRC2012_img_val.tar}}}\n",
    "one.yaml": "pathvars: {results: results/one, logs: logs/one}\n",
}


def commands(text: str) -> list[str]:
    """Return the Snakemake commands of a document: whole lines of code blocks, and code inside a line."""
    lines = [line.strip().removeprefix("$ ") for line in text.splitlines()]
    whole = [line for line in lines if line.startswith("snakemake ")]
    inside = re.findall(r"`(snakemake [^`]+)`", text)
    found = [re.sub(r"\s+#.*$", "", command) for command in (*whole, *inside)]
    return [command for command in dict.fromkeys(found) if "{" not in command]


CASES = [
    pytest.param(command, id=f"{document.name}: {command}")
    for document in DOCUMENTS
    if document.is_file()
    for command in commands(document.read_text())
]


@pytest.fixture(scope="module")
def fresh(tmp_path_factory) -> Project:
    folder = tmp_path_factory.mktemp("commands") / "project"
    copy_of_repository(ROOT, folder)
    for name, text in WRITTEN_BY_USERS.items():
        (folder / name).write_text(text)
    (folder / "ILSVRC2012_img_val.tar").touch()  # a dry run looks whether it is there
    return Project(folder)


def test_the_documents_hold_commands():
    assert len(CASES) >= 8


@pytest.mark.parametrize("command", CASES)
def test_a_command_of_the_documents_runs(fresh, command):
    program, *arguments = shlex.split(command)
    assert program == "snakemake"
    done = fresh.command(sys.executable, "-m", "snakemake", *arguments, "--dry-run")
    output = done.stdout + done.stderr
    assert done.returncode == 0, output
    assert "--unlock" in arguments or "This was a dry-run" in output or "Nothing to be done" in output, output


def test_a_mistake_in_the_config_ends_the_run_with_one_line(fresh):
    (fresh.folder / "wrong.yaml").write_text("cases: {precision: [fp32]}\n")
    done = fresh.command(
        sys.executable, "-m", "snakemake", "--cores", "1", "results/report.md", "-n", "--configfile", "wrong.yaml"
    )
    assert done.returncode != 0
    lines = [line for line in (done.stdout + done.stderr).splitlines() if "unknown key" in line]
    assert len(lines) == 1
    assert "cases.precision: unknown key: did you mean 'precisions'?" in lines[0]
    assert "Traceback" not in done.stdout + done.stderr
