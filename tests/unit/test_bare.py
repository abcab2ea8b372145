"""A bare machine: the two commands need what README.md promises, and each thing that is missing has a clear line."""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
TOOLS = ROOT / "tools"


def tool(name):
    """Import a tool by its file."""
    sys.path.insert(0, str(TOOLS))
    try:
        spec = importlib.util.spec_from_file_location(name, TOOLS / f"{name}.py")
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
    finally:
        sys.path.remove(str(TOOLS))
    return module


def filled(folder, path):
    """Run the tool that fills a folder with the promised programs, with a path of its own."""
    return subprocess.run(
        [sys.executable, TOOLS / "bare_path.py", folder],
        env={"PATH": str(path)},
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.fixture
def bare(tmp_path):
    """A folder with the promised programs and no others."""
    done = filled(tmp_path / "bare", os.environ["PATH"])
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == str(tmp_path / "bare")
    return tmp_path / "bare"


def test_the_path_holds_the_promised_programs_and_nothing_else(bare):
    promised = tool("bare_path").PROMISED
    assert {program.name for program in bare.iterdir()} == {name for names in promised.values() for name in names}
    done = subprocess.run(["make", "--version"], env={"PATH": str(bare)}, capture_output=True, text=True, check=True)
    assert "GNU Make" in done.stdout
    for absent in ("gcc", "cc", "rsync", "bash", "curl"):
        assert not (bare / absent).exists()


@pytest.mark.parametrize("hidden", ["git", "make", "touch"])
def test_a_promised_tool_that_is_missing_is_named(bare, hidden, tmp_path):
    group = next(group for group, names in tool("bare_path").PROMISED.items() if hidden in names)
    (bare / hidden).unlink()
    done = filled(tmp_path / "again", bare)
    assert done.returncode == 1
    assert done.stderr.strip() == f"{hidden}: not found on the path; install {group}"
    assert not (tmp_path / "again").exists()


def test_the_readme_names_what_is_promised():
    text = " ".join((ROOT / "README.md").read_text().split()).replace("`", "")
    for group in tool("bare_path").PROMISED:
        assert group in text, group


@pytest.mark.parametrize(
    ("system", "machine", "version", "words"),
    [
        ("Linux", "x86_64", (3, 11, 7), None),
        ("Linux", "aarch64", (3, 13, 0), None),
        ("Darwin", "arm64", (3, 12, 1), "needs Linux (found Darwin)"),
        ("Linux", "riscv64", (3, 11, 7), "needs a processor of x86-64 or aarch64 (found riscv64)"),
        ("Linux", "x86_64", (3, 10, 13), "needs Python 3.11 to 3.13 (found 3.10)"),
        ("Linux", "x86_64", (2, 7, 18), "needs Python 3.11 to 3.13 (found 2.7)"),
        ("Linux", "x86_64", (3, 14, 0), "needs Python 3.11 to 3.13 (found 3.14)"),
    ],
)
def test_a_system_that_is_not_supported_has_one_line(system, machine, version, words):
    complaint = tool("check_platform").complaint(system, machine, version)
    if words is None:
        assert complaint is None
    else:
        assert words in complaint
        assert "\n" not in complaint
        assert complaint.startswith("stagebench: ")


def test_make_says_it_before_it_sets_anything_up(tmp_path):
    """With an interpreter that calls itself too old: one line, and no environment."""
    old = tmp_path / "python3"
    old.write_text(
        f'#!/bin/sh\nexec {sys.executable} -c "import sys; sys.version_info = (3, 9, 0); '
        'sys.argv = sys.argv[1:]; exec(open(sys.argv[0]).read())" "$@"\n'
    )
    old.chmod(0o755)
    done = subprocess.run(
        ["make", "report", f"PYTHON={old}", f"VENV={tmp_path / 'venv'}"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode != 0
    assert "stagebench: needs Python 3.11 to 3.13 (found 3.9)" in done.stderr
    assert "Traceback" not in done.stderr
    assert not (tmp_path / "venv").exists()
