"""A stage whose process is killed at any moment ends, after a plain rerun, in the same bytes as an undisturbed one."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from common import PREPROCESSING

from stagebench import records

ROOT = Path(__file__).resolve().parents[3]
KILLS = 4
# What each stage is called with, as a script in a process of its own, and the files that it leaves.
STAGES = {
    "extract": (
        "from stagebench.dataset.archive import extract_archive as stage\n"
        "stage(archive=P(a['archive']), archive_record=P(a['archive_record']),"
        " images=P(a['out'])/'images', manifest=P(a['out'])/'manifest.csv', record=P(a['out'])/'dataset.json',"
        " labels='sample', expected=a['images'])"
    ),
    "pixels": (
        "from stagebench.dataset import pixels\n"
        "pixels._BLOCK = 8\n"
        "pixels.decode_pixels(manifest=P(a['manifest']), dataset_record=P(a['dataset_record']),"
        " pixels=P(a['out'])/'pixels.npy', record=P(a['out'])/'pixels.json', preprocessing=a['preprocessing'],"
        " subset=None, threads=2)"
    ),
    "download": (
        "from stagebench.dataset.download import fetch_archive as stage\n"
        "stage(archive=P(a['out'])/'archive.tar', record=P(a['out'])/'archive.json', url=a['url'], path=None,"
        " md5=a['md5'])"
    ),
}


class Stage:
    """A stage as a process that can be killed."""

    def __init__(self, name, arguments):
        self.code = f"import json, sys; from pathlib import Path as P\na = json.loads(sys.argv[1])\n{STAGES[name]}"
        self.arguments = arguments

    def start(self, out):
        out.mkdir(exist_ok=True)
        for path in out.iterdir():  # Snakemake deletes a job's outputs before it starts; work in progress stays
            if ".part" not in path.name:
                records.remove(path)
        return subprocess.Popen(
            [sys.executable, "-c", self.code, json.dumps({**self.arguments, "out": str(out)})],
            env={**os.environ, "PYTHONPATH": str(ROOT / "workflow/scripts"), "no_proxy": "127.0.0.1"},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
        )

    def whole(self, out):
        begin = time.monotonic()
        process = self.start(out)
        text = process.communicate(timeout=120)[0]
        assert process.returncode == 0, text
        return time.monotonic() - begin


def files(folder):
    """Contents of what a stage leaves, records apart: these hold times."""
    return {
        path.relative_to(folder).as_posix(): records.digest(path)
        for path in sorted(folder.rglob("*"))
        if path.is_file() and path.suffix != ".json"
    }


@pytest.fixture
def served(sample):
    """The sample's archive behind a server that takes its time, and the ranges that were asked for."""
    import http.server
    import threading

    data = sample.archive.read_bytes()
    asked = []

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            begin = int((self.headers.get("Range") or "bytes=0-").removeprefix("bytes=").removesuffix("-"))
            asked.append(begin)
            self.send_response(206 if begin else 200)
            if begin:
                self.send_header("Content-Range", f"bytes {begin}-{len(data) - 1}/{len(data)}")
            self.send_header("ETag", '"one"')
            self.send_header("Content-Length", str(len(data) - begin))
            self.end_headers()
            pace = threading.Event()
            for first in range(begin, len(data), 65536):
                try:
                    self.wfile.write(data[first : first + 65536])
                except OSError:
                    return
                pace.wait(0.02)

        def log_message(self, *arguments):
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}/archive.tar", asked
    server.shutdown()
    server.server_close()


@pytest.mark.parametrize("name", STAGES)
def test_a_killed_stage_ends_in_the_same_bytes(name, sample, served, tmp_path):
    url, asked = served
    stage = Stage(
        name,
        {
            "archive": str(sample.archive),
            "archive_record": str(sample.archive_record),
            "images": 32,
            "manifest": str(sample.manifest),
            "dataset_record": str(sample.record),
            "preprocessing": PREPROCESSING,
            "url": url,
            "md5": records.digest(sample.archive, "md5"),
        },
    )
    seconds = stage.whole(tmp_path / "undisturbed")
    asked.clear()
    moments = random.Random(name)
    killed = 0
    for _ in range(KILLS):
        process = stage.start(tmp_path / "disturbed")
        try:
            process.wait(moments.uniform(0.3, 0.95) * seconds)
        except subprocess.TimeoutExpired:
            process.send_signal(signal.SIGKILL)
            killed += process.wait() == -signal.SIGKILL
        if process.returncode:
            assert not [path for path in (tmp_path / "disturbed").glob("*.json") if ".part" not in path.name]
    stage.whole(tmp_path / "disturbed")
    assert killed > 0, "no kill met a running process"
    assert files(tmp_path / "disturbed") == files(tmp_path / "undisturbed")
    if name == "download":
        assert max(asked) > 0, "no run went on where the one before it had stopped"


def test_a_killed_pixel_step_goes_on(sample, tmp_path, caplog):
    """What is in the journal is not decoded again."""
    from stagebench.dataset import pixels

    arguments = {
        "manifest": sample.manifest,
        "dataset_record": sample.record,
        "preprocessing": PREPROCESSING,
        "subset": None,
        "threads": 2,
    }
    decoded = []

    class KilledError(BaseException):
        pass

    def counted(decode, stop_at):
        def decode_one(*args, **kwargs):
            decoded.append(1)
            if len(decoded) == stop_at:
                raise KilledError
            return decode(*args, **kwargs)

        return decode_one

    original, block = pixels.decode_image, pixels._BLOCK
    out = tmp_path / "pixels.npy"
    try:
        pixels._BLOCK = 8
        pixels.decode_image = counted(original, 20)
        with pytest.raises(KilledError):
            pixels.decode_pixels(pixels=out, record=tmp_path / "pixels.json", **arguments)
        assert not out.exists()
        decoded.clear()
        pixels.decode_image = counted(original, 0)
        pixels.decode_pixels(pixels=out, record=tmp_path / "pixels.json", **arguments)
    finally:
        pixels.decode_image, pixels._BLOCK = original, block
    assert 0 < len(decoded) <= 24
    assert pixels.open_pixels(out).shape == (32, 224, 224, 3)
