"""Risky work in a child: whatever ends the child becomes a value."""

import multiprocessing.util
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from stagebench.errors import StagebenchError
from stagebench.host import lock
from stagebench.job import supervise


def test_work_that_ends_well_leaves_its_file(tmp_path):
    target = tmp_path / "made"
    assert supervise.run(target.write_text, data="whole") is None
    assert target.read_text() == "whole"


def kill(name):
    os.kill(os.getpid(), getattr(signal, name))


def take_memory():
    block = bytearray(300 * 2**20)
    block[:: 2**12] = b"x" * len(block[:: 2**12])
    kill("SIGKILL")


def fail():
    raise RuntimeError("first line\nsecond line")


def fail_and_abort():
    """As a library may that meets a broken card again when it is unloaded."""
    multiprocessing.util.Finalize(None, os.abort, exitpriority=1)
    raise RuntimeError("CUDA_ERROR_ILLEGAL_ADDRESS")


def refuse():
    raise StagebenchError("x: wrong; do this")


def leave(code):
    os._exit(code)


def write_score(target):
    target.write_text(Path("/proc/self/oom_score_adj").read_text())


def multiply(size, target):
    """Use the threads of a native library, as a build does."""
    import torch

    matrix = torch.ones(size, size)
    target.write_text(str(float((matrix @ matrix).sum())))


def write_command_line(target):
    target.write_text(Path("/proc/self/cmdline").read_text())


@pytest.mark.parametrize("name", ["SIGKILL", "SIGSEGV", "SIGABRT"])
def test_a_kill_is_told_with_its_signal_and_the_peak_memory(name):
    ended = supervise.run(kill, name=name)
    assert ended.failure.signal == name
    assert f"killed by {name}" in ended.state.reason
    assert 2**20 < ended.failure.peak_memory_bytes < 2**40


def test_memory_that_the_child_took_counts_in_its_peak():
    assert supervise.run(take_memory).failure.peak_memory_bytes > 300 * 2**20


def test_an_error_of_a_library_becomes_a_reason_of_one_line():
    ended = supervise.run(fail)
    assert ended.state.reason == "RuntimeError: first line"
    assert ended.failure.signal is None


def test_an_error_is_told_though_the_process_dies_of_a_signal_after_it():
    ended = supervise.run(fail_and_abort)
    assert ended.state.reason == "RuntimeError: CUDA_ERROR_ILLEGAL_ADDRESS (then killed by SIGABRT)"
    assert ended.failure.signal == "SIGABRT"


def test_an_error_for_the_user_is_raised_as_it_was():
    with pytest.raises(StagebenchError, match="x: wrong; do this"):
        supervise.run(refuse)


def test_an_exit_code_is_told():
    assert supervise.run(leave, code=7).state.reason == "ended with exit code 7"


def test_the_child_is_the_first_that_the_kernel_takes(tmp_path):
    target = tmp_path / "score"
    supervise.run(write_score, target=target)
    assert target.read_text().strip() == "1000"


def test_the_child_of_a_process_with_threads_does_not_hang(tmp_path):
    """A forked child would wait for ever for the threads of a pool that only its parent has."""
    here, there = tmp_path / "here", tmp_path / "there"
    assert supervise.run(there.write_text, data="a fork ends the threads of numpy, and torch has as many") is None
    multiply(600, here)
    assert supervise.run(multiply, size=600, target=there) is None
    assert there.read_text() == here.read_text()


def test_the_child_of_a_process_with_the_cuda_driver_is_started_anew(tmp_path, monkeypatch):
    maps, target = tmp_path / "maps", tmp_path / "command"
    maps.write_text("7f0000000000-7f0000001000 r-xp 00000000 08:01 42   /usr/lib/x86_64-linux-gnu/libcuda.so.1\n")
    monkeypatch.setattr(supervise, "_MAPS", maps)
    assert supervise.run(write_command_line, target=target) is None
    assert "multiprocessing.spawn" in target.read_text()


def test_two_timed_runs_exclude_each_other(tmp_path, repository):
    """A second process waits for the lock, and gets it when the first one ends."""
    path, order = tmp_path / "lock", tmp_path / "order"
    code = (
        "import sys; from pathlib import Path; from stagebench.host import lock\n"
        "with lock.machine(Path(sys.argv[1])), open(sys.argv[2], 'a') as file: file.write('second\\n')"
    )
    with lock.machine(path):
        other = subprocess.Popen(
            [sys.executable, "-c", code, str(path), str(order)],
            env={**os.environ, "PYTHONPATH": str(repository / "workflow/scripts")},
            stderr=subprocess.PIPE,
            text=True,
        )
        assert "waiting for it to end" in other.stderr.readline()
        order.write_text("first\n")
    assert other.wait(timeout=30) == 0
    other.stderr.close()
    assert order.read_text() == "first\nsecond\n"
