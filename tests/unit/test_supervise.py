"""Risky work in a child: whatever ends the child becomes a value."""

import contextlib
import multiprocessing.util
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import psutil
import pytest
from support.stages import archive_record

from stagebench.errors import StagebenchError
from stagebench.host import lock
from stagebench.job import pulse, supervise
from stagebench.records import lifetime


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


@pytest.fixture(params=["fork", "spawn"])
def start(request, monkeypatch):
    """How children are started."""
    monkeypatch.setattr(supervise, "may_fork", lambda: request.param == "fork")
    return request.param


def stand_still():
    """Wait for a lock that nobody releases."""
    own = threading.Lock()
    own.acquire()
    own.acquire()


def begin_and_stop(part):
    part.write_text("half")
    stand_still()


def spin():
    pulse.beat()
    while True:
        pass


def compute(seconds):
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        pass


def beat_now_and_then(seconds):
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        pulse.beat()
        time.sleep(0.1)


@pytest.mark.parametrize("function", [stand_still, spin])
def test_a_child_without_progress_is_ended(start, function):
    ended = supervise.run(function, timeout_s=2)
    assert ended.state.reason == "no progress for 2 s (measurement.timeout_s): ended"
    ended.raise_if_worth_another_try(1)  # it is not memory that it lacked


@pytest.mark.parametrize("function", [compute, beat_now_and_then])
def test_a_child_that_makes_progress_is_left_alone(start, function):
    """Before its first beat it is processor time that counts: nothing is requested of an engine that is being built."""
    assert supervise.run(function, timeout_s=3, seconds=8) is None


def test_what_a_stalled_child_has_in_progress_is_deleted(tmp_path):
    assert supervise.run(begin_and_stop, timeout_s=1, makes=[tmp_path / "made"], part=tmp_path / "made.part").stalled
    assert list(tmp_path.iterdir()) == []


# A job whose child has children of its own, one of them by a fork without exec.
JOB = """
import os, signal, subprocess, sys, time
from pathlib import Path
from types import SimpleNamespace
from stagebench.job import stage, supervise

def have_children(folder):
    (folder / "made.part").write_text("half")
    others = [subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"]).pid, os.fork()]
    if others[1] == 0:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        time.sleep(600)
    (folder / "pids.new").write_text(" ".join(map(str, [os.getpid(), *others])))
    (folder / "pids.new").rename(folder / "pids")
    time.sleep(600)

if __name__ == "__main__":
    folder = Path(sys.argv[1])
    supervise.may_fork = lambda: sys.argv[2] == "fork"
    job = SimpleNamespace(rule="run_inference", resources={"runtime": 15, "mem_mb": 4000}, params={})
    with stage.logged(folder / "log", job):
        supervise.run(have_children, folder=folder, **eval(sys.argv[3]))
"""


def until(condition, seconds=60):
    deadline = time.monotonic() + seconds
    while not (value := condition()):
        assert time.monotonic() < deadline, "the moment never came"
        time.sleep(0.01)
    return value


def lives(pid):
    """Whether a process runs; nobody may be there to wait for an orphan that has ended."""
    with contextlib.suppress(psutil.NoSuchProcess):
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    return False


@contextlib.contextmanager
def job(folder, start, command=(), more="{}"):
    """A job under way: its process, and the numbers of its child and its grandchildren."""
    (folder / "job.py").write_text(JOB)
    process = subprocess.Popen(
        [*command, sys.executable, str(folder / "job.py"), str(folder), start, more],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
    )
    family = []
    try:
        until((folder / "pids").exists)
        family += map(int, (folder / "pids").read_text().split())
        yield process, family
    finally:
        process.kill()
        process.wait()
        for pid in filter(lives, family):
            os.kill(pid, signal.SIGKILL)


@pytest.mark.parametrize("start", ["fork", "spawn"])
def test_nobody_outlives_a_job_that_is_killed(tmp_path, start):
    with job(tmp_path, start) as (process, family):
        assert all(map(lives, family))
        process.kill()
        process.wait()
        until(lambda: not any(map(lives, family)), seconds=5)


@pytest.mark.parametrize("start", ["fork", "spawn"])
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_job_that_is_ended_ends_its_family_first_and_cleans_up(tmp_path, start, number):
    with job(tmp_path, start, more="{'makes': [folder / 'made']}") as (process, family):
        process.send_signal(number)
        assert process.wait(60) == -number
        until(lambda: not any(map(lives, family)), seconds=30)  # killed, and on their way out
    log = (tmp_path / "log").read_text()
    assert f"rule run_inference was ended from outside ({number.name})" in log
    assert "Traceback" not in log
    assert not (tmp_path / "made.part").exists()


def test_a_job_ends_when_the_snakemake_that_started_it_is_killed(tmp_path):
    """Between the two there is a shell, as in a real one."""
    (tmp_path / "snakemake").write_text("import subprocess, sys; subprocess.run(['sh', '-c', sys.argv[1] + '; :'])")
    shell = f"{sys.executable} {tmp_path / 'job.py'} {tmp_path} fork {{}}"
    (tmp_path / "job.py").write_text(JOB)
    snakemake = subprocess.Popen(
        [sys.executable, str(tmp_path / "snakemake"), shell],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
    )
    try:
        until((tmp_path / "pids").exists)
        family = [process.pid for process in psutil.Process(snakemake.pid).children(recursive=True)]
        assert len(family) >= 5
    finally:
        snakemake.kill()
        snakemake.wait()
    until(lambda: not any(map(lives, family)), seconds=15)
    assert f"process {snakemake.pid}, which started this job, is gone" in (tmp_path / "log").read_text()


def test_a_record_is_written_only_for_those_who_live(tmp_path):
    made = tmp_path / "archive"
    made.write_bytes(b"archive")
    gone = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    lifetime.work_for((lifetime.Process.here(), lifetime.Process(gone.pid, lifetime.Status.of(gone.pid).started)))
    try:
        archive_record(tmp_path / "before.json", made)
        gone.communicate(b"\n")
        with pytest.raises(lifetime.OrphanedError, match=f"process {gone.pid}, which started this job, is gone"):
            archive_record(tmp_path / "after.json", made)
    finally:
        gone.kill()
        gone.wait()
        lifetime.work_for(())
    assert sorted(path.name for path in tmp_path.iterdir()) == ["archive", "before.json"]


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
