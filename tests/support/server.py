"""A web server on this machine that serves one file, with the faults that a test sets."""

from __future__ import annotations

import contextlib
import http.server
import ssl
import sys
import threading
from collections.abc import Iterator

import trustme


class Server:
    """What the server does, what it was asked for, and its address. Each request takes one entry of each list."""

    def __init__(self, listening: _Listening, data: bytes, name: str) -> None:
        self.data = data
        #: Mark of the file's version, which a range has to name; None to give no mark.
        self.etag: str | None = '"one"'
        #: Whether ranges are heeded.
        self.ranges = True
        #: Statuses to answer instead of the file.
        self.statuses: list[int] = []
        #: What the header `Authorization` has to be; None to let everyone in.
        self.authorization: str | None = None
        #: Address that requests are sent on to.
        self.redirect: str | None = None
        #: How many bytes of a body to send before the connection is closed.
        self.drops: list[int] = []
        #: How many bytes of the file to send before waiting: `reached` is set then, and `released` is waited for.
        self.stops: list[int] = []
        self.reached, self.released = threading.Event(), threading.Event()
        #: First line and headers of each request, and the byte of the file with which each body began.
        self.lines: list[str] = []
        self.requests: list[dict[str, str]] = []
        self.begins: list[int] = []
        self._listening, self._name = listening, name
        self.url = self._address("http", "127.0.0.1")

    def with_certificate(self) -> trustme.CA:
        """Speak TLS from now on, with a certificate of an authority that nobody knows; return the authority."""
        authority = trustme.CA()
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        authority.issue_cert("localhost").configure_cert(context)
        self._listening.socket = context.wrap_socket(self._listening.socket, server_side=True)
        self.url = self._address("https", "localhost")
        return authority

    def _address(self, scheme: str, host: str) -> str:
        return f"{scheme}://{host}:{self._listening.server_port}/{self._name}"


@contextlib.contextmanager
def serving(data: bytes, name: str) -> Iterator[Server]:
    """Serve a file under a name, and stop at the end."""
    listening = _Listening(("127.0.0.1", 0), _Handler)
    listening.served = Server(listening, data, name)
    thread = threading.Thread(target=listening.serve_forever, args=(0.01,))
    thread.start()
    try:
        yield listening.served
    finally:
        listening.served.released.set()
        listening.shutdown()
        thread.join()
        listening.server_close()


class _Listening(http.server.ThreadingHTTPServer):
    served: Server

    def handle_error(self, request, client_address):
        """Say nothing of a client that goes away or refuses the certificate."""
        if not isinstance(sys.exception(), OSError):
            super().handle_error(request, client_address)


class _Handler(http.server.BaseHTTPRequestHandler):
    server: _Listening

    def do_GET(self):
        served = self.server.served
        served.requests.append(dict(self.headers))
        served.lines.append(self.requestline)
        if served.statuses:
            self.send_error(served.statuses.pop(0))
        elif served.authorization and self.headers["Authorization"] != served.authorization:
            self.send_error(401)
        elif served.redirect:
            self.send_response(302)
            self.send_header("Location", served.redirect)
            self.end_headers()
        else:
            self._send_file(served)

    def _send_file(self, served: Server) -> None:
        begin, length = self._begin(served), len(served.data)
        served.begins.append(begin)
        self.send_response(206 if begin else 200)
        if begin:
            self.send_header("Content-Range", f"bytes {begin}-{length - 1}/{length}")
        if served.etag:
            self.send_header("ETag", served.etag)
        self.send_header("Content-Length", str(length - begin))
        self.end_headers()
        if served.drops:
            self.wfile.write(served.data[begin : begin + served.drops.pop(0)])
            self.connection.close()
            return
        stop = served.stops.pop(0) if served.stops else length
        self.wfile.write(served.data[begin:stop])
        if stop < length:
            served.reached.set()
            served.released.wait()
            self.wfile.write(served.data[stop:])

    def _begin(self, served: Server) -> int:
        """The byte that is asked for, if ranges are heeded and the file is still the version that the client knows."""
        asked = self.headers["Range"]
        if asked and served.ranges and self.headers["If-Range"] in (None, served.etag):
            return int(asked.removeprefix("bytes=").removesuffix("-"))
        return 0

    def log_message(self, *arguments):
        pass
