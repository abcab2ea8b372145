"""Files come whole and checked, from the disk or from a server that drops connections."""

import hashlib
import http.server
import threading
from types import SimpleNamespace

import pytest

from stagebench import records
from stagebench.dataset import transfer
from stagebench.dataset.download import fetch, fetch_archive
from stagebench.records import StagebenchError

DATA = bytes(range(256)) * 20000  # 5 MB
MD5 = hashlib.md5(DATA).hexdigest()


class Handler(http.server.BaseHTTPRequestHandler):
    """A file server whose faults the test sets: drops, ranges ignored, statuses, versions that change."""

    def do_GET(self):
        state = self.server.state
        state.requests.append(dict(self.headers))
        if state.statuses:
            self.send_error(state.statuses.pop(0))
            return
        if state.token and self.headers.get("Authorization") != f"Bearer {state.token}":
            self.send_error(401)
            return
        begin = 0
        asked = self.headers.get("Range")
        if asked and state.ranges and self.headers.get("If-Range") in (None, state.etag):
            begin = int(asked.removeprefix("bytes=").removesuffix("-"))
        body = state.data[begin:]
        self.send_response(206 if begin else 200)
        if begin:
            self.send_header("Content-Range", f"bytes {begin}-{len(state.data) - 1}/{len(state.data)}")
        if state.etag:
            self.send_header("ETag", state.etag)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if state.drops:
            self.wfile.write(body[: state.drops.pop(0)])
            self.wfile.flush()
            self.connection.close()
            return
        self.wfile.write(body)

    def log_message(self, *arguments):
        pass


@pytest.fixture
def server(monkeypatch):
    """The state of a running server, with its address."""
    for name in ("STAGEBENCH_TOKEN", "STAGEBENCH_USER", "http_proxy", "HTTP_PROXY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    monkeypatch.setattr(transfer, "_FIRST_PAUSE_S", 0.01)
    listening = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    listening.state = SimpleNamespace(
        data=DATA, etag='"one"', ranges=True, drops=[], statuses=[], token=None, requests=[]
    )
    listening.state.url = f"http://127.0.0.1:{listening.server_port}/val.tar"
    thread = threading.Thread(target=listening.serve_forever)
    thread.start()
    yield listening.state
    listening.shutdown()
    thread.join()
    listening.server_close()


def begins(state):
    return [request.get("Range") for request in state.requests]


def test_a_download_that_breaks_off_twice_goes_on_where_it_stopped(server, tmp_path):
    server.drops = [1_500_000, 2_000_000]
    fetch(server.url, tmp_path / "val.tar", algorithm="md5", expected=MD5)
    assert (tmp_path / "val.tar").read_bytes() == DATA
    assert len(server.requests) == 3
    assert begins(server)[0] is None
    assert all(begin.startswith("bytes=") for begin in begins(server)[1:])
    assert [path.name for path in tmp_path.iterdir()] == ["val.tar"]


def test_the_next_run_goes_on_with_what_a_killed_one_left(server, tmp_path):
    server.drops = [1_000_000] + [0] * 10
    with pytest.raises(StagebenchError, match=r"times in a row; what has arrived is kept in .*val\.tar\.part"):
        fetch(server.url, tmp_path / "val.tar", algorithm="md5", expected=MD5)
    assert not (tmp_path / "val.tar").exists()
    kept = (tmp_path / "val.tar.part").stat().st_size
    assert kept == 1_000_000
    server.drops, server.requests = [], []
    fetch(server.url, tmp_path / "val.tar", algorithm="md5", expected=MD5)
    assert begins(server) == ["bytes=1000000-"]
    assert (tmp_path / "val.tar").read_bytes() == DATA


def test_a_server_that_ignores_ranges_starts_over(server, tmp_path):
    server.drops, server.ranges = [1_000_000], False
    fetch(server.url, tmp_path / "val.tar", algorithm="md5", expected=MD5)
    assert (tmp_path / "val.tar").read_bytes() == DATA


def test_another_version_of_the_file_is_not_glued_to_the_first(server, tmp_path):
    server.drops = [1_000_000] + [0] * 10
    with pytest.raises(StagebenchError):
        fetch(server.url, tmp_path / "val.tar", algorithm="md5", expected=None)
    server.drops, server.etag, server.data = [], '"two"', DATA[::-1]
    fetch(server.url, tmp_path / "val.tar", algorithm="md5", expected=None)
    assert (tmp_path / "val.tar").read_bytes() == DATA[::-1]


def test_a_whole_file_that_was_not_renamed_is_not_fetched_again(server, tmp_path):
    server.drops = [len(DATA)]
    part = tmp_path / "val.tar.part"
    part.write_bytes(DATA)
    records.write_json(tmp_path / "val.tar.part.json", {"url": server.url, "mark": server.etag})
    server.statuses = []
    fetch(server.url, tmp_path / "val.tar", algorithm="md5", expected=MD5)
    assert (tmp_path / "val.tar").read_bytes() == DATA


def test_passing_faults_are_tried_again(server, tmp_path):
    server.statuses = [503, 429]
    fetch(server.url, tmp_path / "val.tar", algorithm="md5", expected=MD5)
    assert len(server.requests) == 3


def test_a_missing_file_is_said_to_be_missing_at_once(server, tmp_path):
    server.statuses = [404]
    with pytest.raises(StagebenchError, match=r"404.*correct the address"):
        fetch(server.url, tmp_path / "val.tar", algorithm="md5", expected=MD5)
    assert len(server.requests) == 1


def test_a_wrong_checksum_keeps_the_file_for_the_run_that_expects_it(server, tmp_path):
    out = tmp_path / "val.tar"
    with pytest.raises(StagebenchError, match=f"MD5 is {MD5}, expected is {'0' * 32}"):
        fetch(server.url, out, algorithm="md5", expected="0" * 32)
    assert not out.exists()
    assert (tmp_path / f"val.tar.md5-{MD5}").read_bytes() == DATA
    server.requests.clear()
    fetch(server.url, out, algorithm="md5", expected=MD5)
    assert out.read_bytes() == DATA
    assert server.requests == []


def test_a_disk_that_is_too_small_is_told_before_the_download(server, tmp_path, monkeypatch):
    monkeypatch.setattr(transfer.shutil, "disk_usage", lambda path: SimpleNamespace(free=1000))
    with pytest.raises(StagebenchError, match="are free; free the difference"):
        fetch(server.url, tmp_path / "val.tar", algorithm="md5", expected=MD5)


def test_a_token_is_sent_and_never_logged(server, tmp_path, monkeypatch, caplog):
    caplog.set_level("DEBUG", logger="stagebench")
    server.token = "secret-token"
    with pytest.raises(StagebenchError, match=r"401.*STAGEBENCH_TOKEN"):
        fetch(server.url, tmp_path / "val.tar", algorithm="md5", expected=MD5)
    monkeypatch.setenv("STAGEBENCH_TOKEN", "secret-token")
    server.drops = [100]
    fetch(server.url, tmp_path / "val.tar", algorithm="md5", expected=MD5)
    assert "secret-token" not in caplog.text


def test_credentials_stay_at_home_over_plain_http(tmp_path, monkeypatch):
    monkeypatch.setenv("STAGEBENCH_TOKEN", "secret-token")
    with pytest.raises(StagebenchError, match="not sent over plain http") as error:
        fetch("http://user:word@example.invalid/val.tar", tmp_path / "x", algorithm="md5", expected=None)
    assert "word" not in str(error.value)


@pytest.mark.parametrize("url", ["ftp://example.invalid/val.tar", "s3://bucket/val.tar"])
def test_other_schemes_are_refused(url, tmp_path):
    with pytest.raises(StagebenchError, match="use https, http, file or a path"):
        fetch(url, tmp_path / "x", algorithm="md5", expected=None)


@pytest.mark.parametrize("form", ["path", "file"])
def test_a_local_archive_is_linked_not_copied(form, tmp_path):
    source = tmp_path / "mine.tar"
    source.write_bytes(DATA)
    archive, record = tmp_path / "resources" / "archive.tar", tmp_path / "resources" / "archive.json"
    url, path = (None, str(source)) if form == "path" else (source.as_uri(), None)
    fetch_archive(archive, record, url=url, path=path, md5=MD5)
    assert archive.is_symlink()
    assert archive.resolve() == source
    entry = records.read_record(record)["outputs"]["archive"]
    assert (entry["md5"], entry["bytes"]) == (MD5, len(DATA))
    assert entry["sha256"] == records.digest(source)


def test_a_local_archive_with_another_checksum_is_left_alone(tmp_path):
    source = tmp_path / "mine.tar"
    source.write_bytes(DATA)
    with pytest.raises(StagebenchError, match=f"{source}: its MD5 is {MD5}"):
        fetch_archive(tmp_path / "archive.tar", tmp_path / "archive.json", url=None, path=str(source), md5="0" * 32)
    assert source.read_bytes() == DATA
    assert not (tmp_path / "archive.tar").is_symlink()


def test_a_missing_local_archive_is_named(tmp_path):
    with pytest.raises(StagebenchError, match=r"missing\.tar: no such file"):
        fetch_archive(tmp_path / "a", tmp_path / "b", url=None, path=str(tmp_path / "missing.tar"), md5=None)
