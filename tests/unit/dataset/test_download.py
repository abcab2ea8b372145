"""Files come whole and checked, from the disk or from a server that drops connections."""

import base64
import hashlib
import re
from types import SimpleNamespace

import pytest
from support.server import serving

from stagebench.dataset import space, transfer
from stagebench.dataset.download import fetch, fetch_archive
from stagebench.errors import StagebenchError
from stagebench.records.data import ArchiveRecord
from stagebench.records.io import write_json

DATA = bytes(range(256)) * 20000  # 5 MB
MD5 = hashlib.md5(DATA).hexdigest()


@pytest.fixture
def server(monkeypatch):
    """A server of the file, without credentials and proxies of the environment and with short pauses."""
    for name in ("STAGEBENCH_TOKEN", "STAGEBENCH_USER", "http_proxy", "HTTP_PROXY", "NO_PROXY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("no_proxy", "127.0.0.1,localhost")
    monkeypatch.setattr(transfer, "_FIRST_PAUSE_S", 0.01)
    with serving(DATA, "val.tar") as started:
        yield started


@pytest.fixture
def other_server():
    with serving(DATA, "val.tar") as started:
        yield started


def ranges_asked(server):
    return [request.get("Range") for request in server.requests]


def test_a_download_that_breaks_off_twice_goes_on_where_it_stopped(server, tmp_path):
    server.drops = [1_500_000, 2_000_000]
    fetch(server.url, tmp_path / "val.tar", algorithm="md5", expected=MD5)
    assert (tmp_path / "val.tar").read_bytes() == DATA
    assert len(server.requests) == 3
    assert ranges_asked(server)[0] is None
    assert all(begin.startswith("bytes=") for begin in ranges_asked(server)[1:])
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
    assert ranges_asked(server) == ["bytes=1000000-"]
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
    write_json(tmp_path / "val.tar.part.json", {"url": server.url, "mark": server.etag})
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
    monkeypatch.setattr(space.shutil, "disk_usage", lambda path: SimpleNamespace(free=1000))
    with pytest.raises(StagebenchError, match=r"needs 0\.0 GB, but .* has 0\.0 GB free; make room"):
        fetch(server.url, tmp_path / "val.tar", algorithm="md5", expected=MD5)


def test_the_log_tells_rate_and_time_left(server, tmp_path, monkeypatch, caplog):
    caplog.set_level("INFO", logger="stagebench")
    monkeypatch.setattr(transfer, "_LOG_PERIOD_S", 0.0)
    fetch(server.url, tmp_path / "val.tar", algorithm="md5", expected=MD5)
    assert re.search(r"[1-4]\.\d of 5\.1 MB, \d+\.\d MB/s, \d+ s left", caplog.text)


CREDENTIALS = {
    "token": ({"STAGEBENCH_TOKEN": "secret-token"}, "Bearer secret-token"),
    "user": (
        {"STAGEBENCH_USER": "me", "STAGEBENCH_PASSWORD": "secret-word"},
        f"Basic {base64.b64encode(b'me:secret-word').decode()}",
    ),
}


@pytest.mark.parametrize("kind", CREDENTIALS)
def test_credentials_are_sent_and_never_told(kind, server, tmp_path, monkeypatch, caplog):
    caplog.set_level("DEBUG")
    variables, server.authorization = CREDENTIALS[kind]
    with pytest.raises(StagebenchError, match=r"401.*STAGEBENCH_TOKEN"):
        fetch(server.url, tmp_path / "val.tar", algorithm="md5", expected=MD5)
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    server.drops = [1_000_000]
    fetch_archive(tmp_path / "val.tar", tmp_path / "val.json", url=server.url, path=None, md5=MD5)
    told = caplog.text + (tmp_path / "val.json").read_text()
    for secret in ("secret", server.authorization.split()[1]):
        assert secret not in told


def test_credentials_in_an_address_are_never_told(server, tmp_path, caplog):
    caplog.set_level("DEBUG", logger="stagebench")
    url = server.url.replace("127.0.0.1", "me:secret@127.0.0.1") + "?key=secret"
    fetch_archive(tmp_path / "val.tar", tmp_path / "val.json", url=url, path=None, md5=MD5)
    server.statuses = [404]
    with pytest.raises(StagebenchError) as error:
        fetch(url, tmp_path / "again.tar", algorithm="md5", expected=MD5)
    assert "secret" not in caplog.text + (tmp_path / "val.json").read_text() + str(error.value)


def test_credentials_are_not_sent_on_to_another_server(server, other_server, tmp_path, monkeypatch):
    monkeypatch.setenv("STAGEBENCH_TOKEN", "secret-token")
    server.redirect = other_server.url
    fetch(server.url, tmp_path / "val.tar", algorithm="md5", expected=MD5)
    assert server.requests[0]["Authorization"] == "Bearer secret-token"
    assert "Authorization" not in other_server.requests[0]


def test_a_proxy_of_the_environment_is_used(server, tmp_path, monkeypatch, caplog):
    """A request to a proxy names the whole address; this one serves the file itself."""
    caplog.set_level("DEBUG", logger="stagebench")
    port = server.url.split(":")[2].split("/")[0]
    monkeypatch.delenv("no_proxy")
    monkeypatch.delenv("NO_PROXY", raising=False)
    monkeypatch.setenv("http_proxy", f"http://me:secret@127.0.0.1:{port}")
    fetch("http://localhost:9/val.tar", tmp_path / "val.tar", algorithm="md5", expected=MD5)
    assert server.lines == ["GET http://localhost:9/val.tar HTTP/1.1"]
    assert server.requests[0]["Proxy-Authorization"].startswith("Basic ")
    assert "secret" not in caplog.text


@pytest.mark.parametrize("url", ["ftp://example.invalid/val.tar", "s3://bucket/val.tar"])
def test_other_schemes_are_refused(url, tmp_path):
    with pytest.raises(StagebenchError, match="use https, file or a path"):
        fetch(url, tmp_path / "x", algorithm="md5", expected=None)


def test_plain_http_is_for_this_machine_alone(server, tmp_path, monkeypatch):
    monkeypatch.setenv("STAGEBENCH_TOKEN", "secret-token")
    with pytest.raises(StagebenchError, match=r"^http://example\.invalid/val\.tar: plain http is not taken"):
        fetch("http://user:word@example.invalid/val.tar", tmp_path / "x", algorithm="md5", expected=None)
    server.redirect = "http://example.invalid/val.tar"
    with pytest.raises(StagebenchError, match=r"^http://example\.invalid/val\.tar: plain http is not taken"):
        fetch(server.url, tmp_path / "x", algorithm="md5", expected=None)


def test_a_certificate_that_nobody_vouches_for_is_refused(server, tmp_path, monkeypatch):
    authority = server.with_certificate()
    with pytest.raises(StagebenchError, match=r"the certificate of localhost cannot be verified"):
        fetch(server.url, tmp_path / "val.tar", algorithm="md5", expected=MD5)
    assert server.requests == []
    authority.cert_pem.write_to_path(tmp_path / "authority.pem")
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(tmp_path / "authority.pem"))
    fetch(server.url, tmp_path / "val.tar", algorithm="md5", expected=MD5)
    assert (tmp_path / "val.tar").read_bytes() == DATA


@pytest.mark.parametrize("form", ["path", "file"])
def test_a_local_archive_is_linked_not_copied(form, tmp_path):
    source = tmp_path / "mine.tar"
    source.write_bytes(DATA)
    archive, record = tmp_path / "resources" / "archive.tar", tmp_path / "resources" / "archive.json"
    url, path = (None, str(source)) if form == "path" else (source.as_uri(), None)
    fetch_archive(archive, record, url=url, path=path, md5=MD5)
    assert archive.is_symlink()
    assert archive.resolve() == source
    entry = ArchiveRecord.read(record).outputs["archive"]
    assert (entry.md5, entry.bytes) == (MD5, len(DATA))


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
