"""What jobs hold to on machines that a scheduler chose: hardware, GPU, CPUs, memory, time."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import textwrap
from pathlib import Path

import pynvml
import pytest

from stagebench.errors import StagebenchError
from stagebench.host import gpu, identity, lock
from stagebench.job import supervise
from stagebench.records.cells import Device, DeviceRecord
from stagebench.records.envelope import Failure, Stopwatch
from stagebench.records.machine import Accelerator, Identity
from stagebench.report.rows import row_files
from stagebench.vocabulary import Status, failed

CARD = Accelerator(name="NVIDIA A100", uuid="GPU-1", compute_capability="8.0", memory_bytes=80 << 30)
MACHINE = Identity(
    present=True,
    isa="x86_64",
    cpu="A CPU",
    cpu_count=64,
    cpu_features=("avx2",),
    memory_bytes=512 << 30,
    gpu=CARD,
)


def changed(value, **fields):
    return value.model_copy(update=fields)


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ({}, []),
        ({"gpu": changed(CARD, uuid="GPU-2")}, []),  # another card of the node, or another node of the kind
        ({"memory_bytes": MACHINE.memory_bytes - (64 << 20)}, []),
        ({"memory_bytes": 256 << 30}, ["memory_bytes"]),
        ({"gpu": changed(CARD, name="NVIDIA H100", compute_capability="9.0")}, ["gpu"]),
        ({"gpu": None}, ["gpu"]),
        ({"cpu": "Another CPU", "cpu_features": ()}, ["cpu", "cpu_features"]),
    ],
)
def test_what_makes_another_kind_of_machine(change, expected):
    assert identity.differences(MACHINE, changed(MACHINE, **change), timed=True) == expected


def test_only_timed_jobs_are_held_to_the_number_of_cpus():
    fewer = changed(MACHINE, cpu_count=4)
    assert identity.differences(MACHINE, fewer, timed=False) == []
    assert identity.differences(MACHINE, fewer, timed=True) == ["cpu_count"]


def device_record(known):
    return DeviceRecord.make(Stopwatch(), result=Device(name="a100", host="node1", identity=known))


@pytest.mark.parametrize(
    ("change", "same"),
    [
        ({}, True),
        ({"memory_bytes": MACHINE.memory_bytes - 4096}, True),  # a reboot
        ({"gpu": changed(CARD, uuid="GPU-2")}, True),
        ({"cpu": "Another CPU"}, False),
        ({"cpu_count": 4}, False),
    ],
)
def test_a_fingerprint_has_the_tolerance_of_the_comparison(change, same, tmp_path):
    """What it is a parameter of reruns only on another kind of machine."""
    record = tmp_path / "a100.json"
    device_record(MACHINE).write(record)
    here = changed(MACHINE, **change)
    found = identity.fingerprint_of_record(record, here)
    assert (found == identity.fingerprint(MACHINE)) is same
    assert identity.fingerprint_of_record(tmp_path / "none.json", here) == identity.fingerprint(here)


def test_a_job_on_other_hardware_is_told_both(monkeypatch):
    monkeypatch.setattr(identity, "identity", lambda: changed(MACHINE, cpu="Another CPU"))
    with pytest.raises(StagebenchError, match=r"describes A CPU.*runs on Another CPU.*different: cpu"):
        identity.require_same(device_record(MACHINE), Path("results/devices/a100.json"))


def test_a_device_that_was_sent_to_the_wrong_machine_is_unavailable(monkeypatch, tmp_path):
    monkeypatch.setattr(identity, "identity", lambda: changed(MACHINE, gpu=None))
    record = tmp_path / "a100.json"
    identity.probe("a100", "8.0", record, on_device=True)
    refused = DeviceRecord.read(record)
    assert refused.status is Status.UNAVAILABLE
    assert "devices.a100 has compute capability 8.0, but this job runs on" in refused.reason
    identity.probe("a100", "8.0", record)  # elsewhere it is built for ahead of time
    assert DeviceRecord.read(record).found.identity.present is False


@pytest.fixture
def four_cards(monkeypatch):
    """A node with four GPUs, of which this job may open the second and the fourth."""

    def handle(index):
        if index % 2 == 0:
            raise pynvml.NVMLError_NoPermission
        return f"card{index}"

    for name, function in {
        "nvmlInit": lambda: None,
        "nvmlShutdown": lambda: None,
        "nvmlDeviceGetCount": lambda: 4,
        "nvmlDeviceGetHandleByIndex": handle,
        "nvmlDeviceGetHandleByUUID": lambda uuid: f"card{uuid[-1]}",
        "nvmlDeviceGetUUID": lambda card: f"GPU-{card[-1]}",
    }.items():
        monkeypatch.setattr(pynvml, name, function)
    for name in ("CUDA_VISIBLE_DEVICES", "SLURM_STEP_GPUS", "SLURM_JOB_GPUS"):
        monkeypatch.delenv(name, raising=False)


@pytest.mark.parametrize(
    ("given", "taken"),
    [
        ({"CUDA_VISIBLE_DEVICES": "1"}, "GPU-3"),  # counted among those that it may open
        ({"CUDA_VISIBLE_DEVICES": "0,1"}, "GPU-1"),
        ({"CUDA_VISIBLE_DEVICES": "0", "SLURM_STEP_GPUS": "3"}, "GPU-1"),
        ({"SLURM_STEP_GPUS": "1", "SLURM_JOB_GPUS": "0,1"}, "GPU-3"),
        ({"CUDA_VISIBLE_DEVICES": "GPU-3"}, "GPU-3"),
        ({"CUDA_VISIBLE_DEVICES": "MIG-abc"}, "MIG-abc"),
        ({"CUDA_VISIBLE_DEVICES": "7"}, "7"),  # there is no such card: the probe will say so
        ({}, None),
    ],
)
def test_the_gpu_that_the_scheduler_gave_is_taken_by_its_uuid(four_cards, monkeypatch, given, taken):
    for name, value in given.items():
        monkeypatch.setenv(name, value)
    gpu.take_scheduled()
    assert os.environ.get("CUDA_VISIBLE_DEVICES") == taken


SHARER = """
import os, sys
from pathlib import Path
from types import SimpleNamespace
from stagebench.host import gpu, lock
gpu.identity = lambda: SimpleNamespace(uuid=sys.argv[2])
os.sched_getaffinity = lambda pid: set(map(int, sys.argv[3].split(",")))
with lock.share(Path(sys.argv[1])):
    print("holds", flush=True)
    sys.stdin.read()
"""


@pytest.mark.parametrize(
    ("uuid", "cpus", "side_by_side"),
    [("GPU-2", "2,3", True), ("GPU-1", "2,3", False), ("GPU-2", "1,2", False)],
)
def test_a_machine_is_shared_by_jobs_with_a_gpu_and_cpus_of_their_own(tmp_path, monkeypatch, uuid, cpus, side_by_side):
    path = tmp_path / "lock"
    other = subprocess.Popen(
        [sys.executable, "-c", SHARER, str(path), "GPU-1", "0,1"],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert other.stdout.readline() == "holds\n"
    monkeypatch.setattr(gpu, "identity", lambda: changed(CARD, uuid=uuid))
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: set(map(int, cpus.split(","))))
    waited: list[str] = []
    # What it would wait for ends as soon as it says that it waits.
    monkeypatch.setattr(lock._log, "warning", lambda *text: (waited.append(str(text)), other.stdin.close()))
    with lock.share(path):
        assert bool(waited) is not side_by_side
    other.stdin.close()
    other.wait()


def test_without_a_gpu_the_whole_machine_is_held(tmp_path, monkeypatch):
    monkeypatch.setattr(gpu, "identity", lambda: None)
    with lock.share(tmp_path / "lock"):
        assert [path.name for path in tmp_path.iterdir()] == ["lock"]


@pytest.mark.parametrize(
    ("reason", "name", "again"),
    [
        ("killed by SIGKILL (out of memory?)", "SIGKILL", True),
        ("MemoryError: no message", None, True),
        ("RuntimeError: CUDA error: out of memory", None, True),
        ("killed by SIGSEGV", "SIGSEGV", False),
    ],
)
def test_memory_that_ran_out_is_tried_again_while_there_are_tries(reason, name, again):
    ended = supervise.Ended(failed(reason), Failure(signal=name, peak_memory_bytes=0))
    ended.raise_if_worth_another_try(0)  # the last attempt: it becomes a row
    if again:
        with pytest.raises(StagebenchError, match="tries left, with more memory: 2"):
            ended.raise_if_worth_another_try(2)
    else:
        ended.raise_if_worth_another_try(2)


def _end_itself() -> None:
    os.kill(os.getpid(), signal.SIGTERM)


def test_a_child_that_is_ended_from_outside_is_no_finding():
    with pytest.raises(StagebenchError, match="ended from outside"):
        supervise.run(_end_itself)


def test_a_stage_that_is_ended_names_its_rule_and_its_limits(tmp_path):
    script = """
    import os, signal, sys
    from types import SimpleNamespace
    from stagebench.job import stage
    job = SimpleNamespace(rule="run_inference", resources={"runtime": 15, "mem_mb": 4000}, params={})
    with stage.logged(sys.argv[1], job):
        os.kill(os.getpid(), signal.SIGTERM)
        signal.pause()
    """
    log = tmp_path / "log"
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(script), str(log)],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == -signal.SIGTERM
    assert "rule run_inference was ended from outside (SIGTERM)" in log.read_text()
    assert "runtime=15 minutes and mem_mb=4000" in log.read_text()
    assert "--set-resources run_inference:runtime=MINUTES" in done.stderr


def test_records_are_found_where_a_storage_provider_keeps_them():
    cell = {"device": "local", "model": "net", "engine": "noop", "precision": "fp32"}
    rows = [
        {
            "cell": {**cell, "batch": 1},
            "records": {"dataset": "a.json", "pixels": None, "inference": "b.json"},
            "settings": {},
        },
        {
            "cell": {**cell, "batch": 2},
            "records": {"dataset": "a.json", "pixels": None, "inference": "c.json"},
            "settings": {},
        },
    ]
    found = row_files(rows, ["stored/a.json", "stored/b.json", "stored/c.json"])
    assert [row.records for row in found] == [
        {"dataset": Path("stored/a.json"), "inference": Path("stored/b.json")},
        {"dataset": Path("stored/a.json"), "inference": Path("stored/c.json")},
    ]
    assert [row.cell.batch for row in found] == [1, 2]
