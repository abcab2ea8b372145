"""The project after one whole run on a small network: what the tests of the workflow start from."""

from __future__ import annotations

import pytest
from support.project import Project, copy_of_repository


@pytest.fixture(scope="session")
def finished(repository, tmp_path_factory) -> Project:
    """The project after one whole run of the small config. Tests put back what they change."""
    folder = tmp_path_factory.mktemp("workflow") / "project"
    copy_of_repository(repository, folder)
    project = Project(folder)
    project.configure()
    done = project.run("results/report.md")
    assert done.returncode == 0, done.stdout + done.stderr
    return project
