"""The state of a user's file: by its contents, or where these are too large to read while planning, by its time."""

import os

import pytest

from stagebench.job import own_files


@pytest.fixture
def file(tmp_path):
    path = tmp_path / "file"
    path.write_bytes(b"contents")
    return path


def test_a_file_is_known_by_its_contents(file):
    before = own_files.state(file)
    os.utime(file, (0, 0))
    assert own_files.state(file) == before
    found = file.stat()
    file.write_bytes(b"CONTENTS")
    os.utime(file, ns=(found.st_atime_ns, found.st_mtime_ns))
    assert own_files.state(file) != before


def test_a_large_file_is_known_by_size_and_time_and_is_not_opened(file, monkeypatch):
    os.truncate(file, own_files.READ + 1)  # sparse
    monkeypatch.setattr(own_files, "digest", lambda path: pytest.fail("read"))
    before = own_files.state(file)
    assert own_files.state(file) == before
    os.utime(file, (0, 0))
    assert own_files.state(file) != before


def test_a_file_that_is_gone_is_an_error(tmp_path):
    with pytest.raises(FileNotFoundError):
        own_files.state(tmp_path / "gone")
