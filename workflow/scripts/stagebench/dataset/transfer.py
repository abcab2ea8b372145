"""Downloads over HTTP that go on where they broke off, with their digest computed while the bytes arrive."""

from __future__ import annotations

import contextlib
import hashlib
import json
import logging
import os
import threading
import time
from collections import deque
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from functools import cache
from itertools import cycle
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, Self
from urllib.parse import urlsplit, urlunsplit

import requests
import urllib3
from requests.adapters import HTTPAdapter

from stagebench.dataset.space import require_free
from stagebench.errors import StagebenchError, UnrecordedError
from stagebench.job.logs import progress_bar
from stagebench.records.io import write_json

if TYPE_CHECKING:
    from collections.abc import Callable

CHUNK = 1 << 20
_BEHIND = 2  # chunks that wait to be hashed
# Attempts in a row that bring no byte before the download is given up, and the pauses between them (doubled each time).
_ATTEMPTS = 6
_FIRST_PAUSE_S = 0.5
_TIMEOUT_S = (10, 60)  # to connect; between two bytes
# Statuses that a later attempt may not meet (RFC 9110 section 15; 429 is RFC 6585).
_PASSING = frozenset({408, 425, 429, 500, 502, 503, 504})
_LOG_PERIOD_S = 10.0
# Where plain http is taken from: nobody can listen there or change what comes.
_LOOPBACK = frozenset({"localhost", "127.0.0.1", "::1"})
_RETRIED = (
    requests.ConnectionError,
    requests.Timeout,
    urllib3.exceptions.HTTPError,
)
_log = logging.getLogger(__name__)


@cache
def _thread() -> ThreadPoolExecutor:
    return ThreadPoolExecutor(1, thread_name_prefix="digest")


class Digest:
    """MD5 or SHA-256, and length, of bytes that pass by.

    It is computed on a thread of its own, some steps behind the caller: that releases the interpreter's lock, and the
    next bytes are read meanwhile. One algorithm alone: two would take half as long again wherever a CPU is not free.

    Args:
        algorithm: "md5" or "sha256".
    """

    def __init__(self, algorithm: str) -> None:
        self._algorithm = algorithm
        self.restart()

    def restart(self) -> None:
        """Forget what has passed by."""
        self.length = 0
        self._pending: deque[Future[None]] = deque()
        self._state = hashlib.new(self._algorithm, usedforsecurity=False)

    def update(self, data: bytes | memoryview) -> None:
        """Take the next bytes, which must not change until two calls more have returned."""
        self._wait(_BEHIND - 1)
        self._pending.append(_thread().submit(self._state.update, data))
        self.length += len(data)

    def hex(self) -> str:
        """Return the digest so far in hexadecimal digits."""
        self._wait(0)
        return self._state.hexdigest()

    @classmethod
    def of_file(cls, algorithm: str, path: Path) -> Self:
        """Return the digest of a file, with a progress bar on a terminal."""
        digest = cls(algorithm)
        buffers = cycle(memoryview(bytearray(CHUNK)) for _ in range(_BEHIND + 1))
        with (
            path.open("rb", buffering=0) as file,
            progress_bar(f"check {algorithm}", total=path.stat().st_size, unit="B", unit_scale=True) as bar,
        ):
            while count := file.readinto(buffer := next(buffers)):
                digest.update(buffer[:count])
                bar.update(count)
        return digest

    def _wait(self, left: int) -> None:
        """Wait until no more than `left` steps are to be computed."""
        while len(self._pending) > left:
            self._pending.popleft().result()


class _PassingError(Exception):
    """A passing fault, which a later attempt may not meet."""


def without_credentials(url: str) -> str:
    """Return an address without the user name and password that it may hold: fit for logs and records."""
    parts = urlsplit(url)
    return urlunsplit(parts._replace(netloc=parts.netloc.rpartition("@")[2], query=""))


def download(url: str, part: Path, *, algorithm: str, resume_unmarked: bool) -> Digest:
    """Download `url` (https, or http on this machine) into `part`, resuming what an earlier attempt or run left.

    A server that ignores the range starts it over. Proxies come from the usual variables of the environment, a bearer
    token from STAGEBENCH_TOKEN, a user from STAGEBENCH_USER and STAGEBENCH_PASSWORD or from ~/.netrc; none is logged.

    Args:
        algorithm: of the digest that is returned, "md5" or "sha256".
        part: file in progress; a sidecar next to it (`.json`) remembers which version of the file it is.
        resume_unmarked: go on even where the server gives its file no mark (ETag, Last-Modified), since a checksum
            will decide.

    Raises:
        StagebenchError: the address is neither or leads to one that is neither, the server refuses or is not who it
            says, the disk is too small, or no attempt brings any bytes.
    """
    shown = without_credentials(url)
    attempt, pause = 0, _FIRST_PAUSE_S
    digest = _resume(url, part, algorithm)
    with _session() as session:
        while True:
            before = digest.length
            try:
                return _attempt(session, url, part, digest, resume_unmarked)
            except _StartOverError:
                digest.restart()
                part.write_bytes(b"")
                continue
            except requests.exceptions.SSLError as error:
                raise StagebenchError(f"{shown}: {_brief(error, url)}; correct the address or the clock") from None
            except (*_RETRIED, _PassingError) as error:
                attempt = 1 if digest.length > before else attempt + 1
                pause = _FIRST_PAUSE_S if digest.length > before else pause * 2
                reason = _brief(error, url)
                if attempt >= _ATTEMPTS:
                    raise UnrecordedError(
                        f"{shown}: {reason}, {_ATTEMPTS} times in a row; what has arrived is kept in {part}: "
                        "check the address and the network, then run again to go on"
                    ) from None
                _log.info("%s: %s at %d bytes; trying again in %.1f s", shown, reason, digest.length, pause)
                threading.Event().wait(pause)
            except requests.RequestException as error:
                raise StagebenchError(f"{shown}: {_brief(error, url)}; correct the address") from None


class _StartOverError(Exception):
    """The partial file belongs to another version of the file."""


def _attempt(session: requests.Session, url: str, part: Path, digest: Digest, resume_unmarked: bool) -> Digest:
    """Receive what is missing; `digest` knows what is there already."""
    mark = _mark(part)
    headers = {"Accept-Encoding": "identity"}
    if digest.length:
        headers["Range"] = f"bytes={digest.length}-"
        if mark:
            headers["If-Range"] = mark
    with session.get(url, headers=headers, stream=True, timeout=_TIMEOUT_S) as response:
        if response.status_code == 416 and digest.length:
            if response.headers.get("Content-Range") == f"bytes */{digest.length}":
                return digest
            raise _StartOverError
        _check_status(response, url)
        if digest.length and not _continues(response, digest.length, mark, resume_unmarked):
            if response.status_code == 206:
                raise _StartOverError
            digest.restart()  # the whole file follows
        _check_space(response, part, digest.length)
        _remember(part, url, response)
        _receive(response, part, digest)
    return digest


def _receive(response: requests.Response, part: Path, digest: Digest) -> None:
    length = response.headers.get("Content-Length")
    total = digest.length + int(length) if length else None
    pace = _Pace(digest.length, total)
    with (
        part.open("r+b" if part.exists() else "w+b") as file,
        progress_bar("download", total=total, initial=digest.length, unit="B", unit_scale=True) as bar,
    ):
        file.truncate(digest.length)
        file.seek(digest.length)
        while data := response.raw.read1(CHUNK):  # what has arrived, so that a lost connection loses nothing
            _write(file, data, part)
            digest.update(data)
            bar.update(len(data))
            pace.log(digest.length)
    if total is not None and digest.length != total:
        raise _PassingError(f"the connection ended {total - digest.length} bytes too early")


def _write(file: BinaryIO, data: bytes, part: Path) -> None:
    try:
        file.write(data)
    except OSError as error:
        raise UnrecordedError(
            f"{part}: {error.strerror}; what has arrived is kept: make room, then run again to go on"
        ) from None


class _Pace:
    """Tells the log every few seconds how far a download is, how fast, and how long it will take."""

    def __init__(self, begin: int, total: int | None) -> None:
        self._begin, self._total = begin, total
        self._started = self._logged = time.monotonic()

    def log(self, done: int) -> None:
        """Write a line, if it is time for one; `done` counts all bytes that are there."""
        now = time.monotonic()
        if now - self._logged < _LOG_PERIOD_S:
            return
        self._logged = now
        rate = (done - self._begin) / max(now - self._started, 1e-9)
        of = f" of {self._total / 1e6:.1f}" if self._total is not None else ""
        left = f", {(self._total - done) / rate:.0f} s left" if self._total is not None and rate else ""
        _log.info("%.1f%s MB, %.1f MB/s%s", done / 1e6, of, rate / 1e6, left)


def _continues(response: requests.Response, begin: int, mark: str, resume_unmarked: bool) -> bool:
    """Return whether the body continues at byte `begin` of the same file."""
    if response.status_code != 206:
        return False
    starts = response.headers.get("Content-Range", "").startswith(f"bytes {begin}-")
    return starts and (bool(mark) or resume_unmarked)


def _check_status(response: requests.Response, url: str) -> None:
    status = response.status_code
    if status in (200, 206):
        return
    if status in _PASSING:
        raise _PassingError(f"the server answers {status} {response.reason}")
    hint = {
        401: "set STAGEBENCH_TOKEN, or STAGEBENCH_USER and STAGEBENCH_PASSWORD",
        403: "accept the data set's terms, or give credentials in STAGEBENCH_TOKEN",
        404: "correct the address",
    }.get(status, "correct the address")
    raise StagebenchError(f"{without_credentials(url)}: the server answers {status} {response.reason}; {hint}")


def _check_space(response: requests.Response, part: Path, there: int) -> None:
    """Require room for what follows the first `there` bytes of the file in progress; the rest of it is overwritten."""
    length = int(response.headers.get("Content-Length", 0))
    overwritten = part.stat().st_size - there if part.exists() else 0
    require_free(part.parent, length - overwritten, what="the download", advice="name a local copy by path")


def _sidecar(part: Path) -> Path:
    return part.with_name(part.name + ".json")


def _remember(part: Path, url: str, response: requests.Response) -> None:
    """Note which version of the file arrives. A weak ETag cannot mark a range (RFC 9110 section 13.1.5)."""
    etag = response.headers.get("ETag", "")
    mark = etag if etag and not etag.startswith("W/") else response.headers.get("Last-Modified", "")
    write_json(_sidecar(part), {"url": without_credentials(url), "mark": mark})


def forget(part: Path) -> None:
    """Delete the sidecar of a download that has come to its end."""
    _sidecar(part).unlink(missing_ok=True)


def _noted(part: Path) -> dict[str, str]:
    with contextlib.suppress(OSError, ValueError):
        return dict(json.loads(_sidecar(part).read_text(encoding="utf-8")))
    return {}


def _mark(part: Path) -> str:
    return _noted(part).get("mark", "")


def _resume(url: str, part: Path, algorithm: str) -> Digest:
    """Return the digest of what an earlier run left of the same address; start over with anything else."""
    part.parent.mkdir(parents=True, exist_ok=True)
    if part.is_file() and _noted(part).get("url") == without_credentials(url):
        _log.info("%s: resuming after %d bytes", part, part.stat().st_size)
        return Digest.of_file(algorithm, part)
    part.unlink(missing_ok=True)
    forget(part)
    return Digest(algorithm)


class _ThisMachineAlone(HTTPAdapter):
    """Plain http: anyone on the way could read credentials and change the file, so it is for this machine alone."""

    def send(self, request: requests.PreparedRequest, *args: Any, **kwargs: Any) -> requests.Response:
        """Send a request, whether it is the first or follows a redirection."""
        if urlsplit(request.url).hostname not in _LOOPBACK:
            raise StagebenchError(f"{without_credentials(str(request.url))}: plain http is not taken; use https")
        return super().send(request, *args, **kwargs)


@contextlib.contextmanager
def _session() -> Iterator[requests.Session]:
    """Yield a session with the credentials of the environment; requests drops them where it is sent elsewhere."""
    with requests.Session() as session:
        session.mount("http://", _ThisMachineAlone())
        token = os.environ.get("STAGEBENCH_TOKEN")
        user = os.environ.get("STAGEBENCH_USER")
        if token:
            session.auth = _bearer(token)
        elif user:
            session.auth = (user, os.environ.get("STAGEBENCH_PASSWORD", ""))
        yield session


def _bearer(token: str) -> Callable[[requests.PreparedRequest], requests.PreparedRequest]:
    def authorise(request: requests.PreparedRequest) -> requests.PreparedRequest:
        request.headers["Authorization"] = f"Bearer {token}"
        return request

    return authorise


def _brief(error: Exception, url: str) -> str:
    """Return an error in one line, without the address and what it may hold."""
    if isinstance(error, _PassingError):
        return str(error)
    host = urlsplit(url).hostname
    known = (  # the special ones first: they are kinds of ConnectionError
        (requests.exceptions.SSLError, f"the certificate of {host} cannot be verified"),
        (requests.exceptions.ProxyError, "the proxy cannot be reached"),
        (requests.Timeout, f"no answer from {host} in time"),
        (urllib3.exceptions.HTTPError, "the connection broke off"),
        (requests.ConnectionError, f"no connection to {host}"),
    )
    return next((text for kind, text in known if isinstance(error, kind)), type(error).__name__)
