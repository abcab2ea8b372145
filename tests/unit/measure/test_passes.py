"""The loop of the passes against a session that checks the contract of slots, and keeps what it was given."""

from __future__ import annotations

import threading
from types import SimpleNamespace

import numpy as np
import pytest

from stagebench.engines import base
from stagebench.engines.base import Session, Timing
from stagebench.errors import StagebenchError
from stagebench.measure.blocks import run_resident
from stagebench.measure.feeding import Decoded, Feeder, Files, threads_to_feed
from stagebench.measure.scenarios.offline import run_passes
from stagebench.preprocessing import Preprocessing
from stagebench.records.cells import Execution

SIDE = 4


class StrictSession(Session):
    """Gives each image the class that its first byte names; breaks off where the contract is broken."""

    def __init__(self, batch, requests):
        self.requests = requests
        self.slots = [np.zeros((batch, SIDE, SIDE, 3), np.uint8) for _ in range(self.ring(requests, batch))]
        self.execution = Execution(executed={})
        self.in_flight = []
        self.most_in_flight = 0
        self.seen = []
        self.resident = []

    def launch(self, k):
        assert k not in self.in_flight, "a slot was launched while still in flight"
        assert len(self.in_flight) < self.requests, "more requests than the engine keeps in flight"
        self.in_flight.append(k)
        self.most_in_flight = max(self.most_in_flight, len(self.in_flight))
        self.seen.append(self.slots[k].copy())

    def wait(self, k):
        assert self.in_flight[0] == k, "slots are waited for in the order of their launches"
        assert np.array_equal(self.slots[k], self.seen[len(self.seen) - len(self.in_flight)]), "refilled in flight"
        self.in_flight.pop(0)
        logits = np.zeros((len(self.slots[k]), 300), np.float32)
        logits[np.arange(len(logits)), self.slots[k][:, 0, 0, 0]] = 1.0
        return logits, Timing(0.0, 0.25, 0.0)

    def repeat_resident(self, n):
        assert n % self.requests == 0
        self.resident.append(n)
        return n * 0.01

    def close(self):
        self.in_flight.clear()


def images(count):
    pixels = np.zeros((count, SIDE, SIDE, 3), np.uint8)
    pixels[:, 0, 0, 0] = np.arange(count)
    return pixels


@pytest.mark.parametrize("count", [1, 7, 16, 33])
@pytest.mark.parametrize("batch", [1, 4, 16, 64])
@pytest.mark.parametrize("requests", [1, 2, 4])
@pytest.mark.parametrize("threads", [1, 3])
def test_every_image_is_predicted_once_in_every_pass(count, batch, requests, threads):
    session = StrictSession(batch, requests)
    with Feeder(Decoded(images(count)), threads) as feeder:
        found = run_passes(session, feeder, 3)
    assert found.classes.shape == (3, count, 5)
    assert np.array_equal(found.classes[:, :, 0], np.tile(np.arange(count), (3, 1)))
    assert len(found.seconds) == 3
    assert all(seconds > 0 for seconds in found.seconds)
    assert len(found.timings) == 3 * -(-count // batch)
    assert session.in_flight == []


def test_the_engine_is_kept_supplied_across_passes():
    session = StrictSession(batch=4, requests=2)
    with Feeder(Decoded(images(4)), 2) as feeder:
        run_passes(session, feeder, 5)
    assert session.most_in_flight == 2  # a pass has one batch: two in flight are of two passes


def test_decoding_goes_on_while_the_engine_computes():
    """With one request in flight, two more slots are filled before its result is collected."""
    started = threading.Semaphore(0)

    class Counted(Decoded):
        def fill(self, begin, out):
            work = super().fill(begin, out)
            started.release()
            return work

    class Slow(StrictSession):
        def wait(self, k):
            if len(self.seen) == 1:
                for _ in range(3):  # this one and the two ahead
                    assert started.acquire(timeout=10)
            return super().wait(k)

    with Feeder(Counted(images(6)), 1) as feeder:
        run_passes(Slow(batch=1, requests=1), feeder, 1)


def test_at_batch_size_one_every_thread_decodes_at_the_same_time(monkeypatch):
    """As if there were six CPUs: the first six images go on when all of them have begun."""
    monkeypatch.setattr(base, "cpus", SimpleNamespace(usable=lambda: 6))
    all_begun = threading.Barrier(6)

    class Together(Decoded):
        def fill(self, begin, out):
            if begin < 6:
                all_begun.wait(timeout=60)
            return super().fill(begin, out)

    with Feeder(Together(images(20)), 6) as feeder:
        found = run_passes(StrictSession(batch=1, requests=1), feeder, 1)
    assert np.array_equal(found.classes[0, :, 0], np.arange(20))


def test_the_time_of_a_pass_is_accounted_for(tmp_path):
    """Real files: what the threads did fits into their time, and what the loop waited for into its own."""
    from PIL import Image

    (tmp_path / "images").mkdir()
    rows = []
    for number in range(12):
        Image.effect_noise((320, 240), 60).save(tmp_path / f"images/{number}.jpg")
        rows.append(type("Row", (), {"path": f"images/{number}.jpg"}))
    source = Files(tmp_path / "manifest.csv", rows, Preprocessing(resize=8, crop=SIDE))
    with Feeder(source, 2) as feeder:
        spent = run_passes(StrictSession(batch=4, requests=1), feeder, 2).breakdown
    assert min(spent.read, spent.decode, spent.resize, spent.input_cpu, spent.top_k) > 0
    busy = spent.read + spent.decode + spent.resize
    assert spent.input_cpu <= busy * 1.5 + 0.02  # the clock of threads is coarser
    assert busy + spent.wait_slot == pytest.approx(2 * spent.wall)
    assert spent.wait_input + spent.wait_engine + spent.top_k <= spent.wall


@pytest.mark.parametrize(
    ("device_kind", "cpus", "core", "threads"),
    [
        ("gpu", 16, 11710.0, 16),  # compute leaves every core
        ("cpu", 2, 80.0, 2),
        ("cpu", 1, 40.0, 1),
        # 2 ms of a CPU to decode and 64 / 2560 = 25 ms to compute: 7.4 % of 64 cores, and half as much again.
        ("cpu", 64, 2560.0, 8),
        ("cpu", 64, 1e9, 64),  # nothing is computed
    ],
)
def test_as_many_threads_feed_as_compute_leaves_cores_for(device_kind, cpus, core, threads):
    assert threads_to_feed(device_kind, cpus, 0.002, core) == threads


def test_a_broken_file_ends_the_run_and_is_named(tmp_path):
    class Row:
        path = "images/broken.JPEG"

    (tmp_path / "images").mkdir()
    (tmp_path / "images/broken.JPEG").write_bytes(b"no image")
    source = Files(tmp_path / "manifest.csv", [Row()], Preprocessing(resize=4, crop=4))
    with Feeder(source, 1) as feeder, pytest.raises(StagebenchError, match=r"broken\.JPEG"):
        run_passes(StrictSession(1, 1), feeder, 1)


def test_a_resident_block_is_long_enough_and_whole():
    session = StrictSession(batch=4, requests=2)
    seconds, requests = run_resident(session, 3)
    assert requests % session.requests == 0
    assert len(seconds) == 3
    assert all(block >= 0.5 for block in seconds)
    assert session.resident == [2, requests, requests, requests]
