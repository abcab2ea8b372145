"""What is known of a GPU: by NVML's real answers on this machine if there is none, by planned answers otherwise."""

from __future__ import annotations

import os
from types import SimpleNamespace

import pynvml
import pytest

from stagebench.engines import registry
from stagebench.host import gpu, gpu_state, identity
from stagebench.host.environment import environment
from stagebench.host.gpu_memory import DeviceMemory
from stagebench.records.machine import Accelerator, MemoryUse
from stagebench.vocabulary import RefusedError, Status, precision

UUID = "GPU-12345678-9abc-def0-1234-56789abcdef0"
GIB = 2**30


@pytest.fixture
def card(monkeypatch):
    """An A100 as NVML would tell of it; a test changes what it answers."""
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    answers = {
        "nvmlInit": None,
        "nvmlShutdown": None,
        "nvmlDeviceGetCount": 1,
        "nvmlDeviceGetHandleByIndex": "card 0",
        "nvmlDeviceGetHandleByUUID": "card by UUID",
        "nvmlDeviceGetCudaComputeCapability": (8, 0),
        "nvmlDeviceGetName": "NVIDIA A100-SXM4-40GB",
        "nvmlDeviceGetUUID": UUID,
        "nvmlDeviceGetMemoryInfo": SimpleNamespace(total=40 * GIB, used=GIB),
        "nvmlDeviceGetMigMode": (pynvml.NVML_DEVICE_MIG_DISABLE, pynvml.NVML_DEVICE_MIG_DISABLE),
        "nvmlDeviceIsMigDeviceHandle": 0,
        "nvmlDeviceGetComputeRunningProcesses": [],
        "nvmlSystemGetCudaDriverVersion_v2": 13040,
        "nvmlSystemGetDriverVersion": "615.71",
        "nvmlDeviceGetMaxClockInfo": 1410,
        "nvmlDeviceGetClockInfo": 1200,
        "nvmlDeviceGetEnforcedPowerLimit": 400_000,
        "nvmlDeviceGetPowerUsage": 61_000,
        "nvmlDeviceGetEccMode": (1, 1),
        "nvmlDeviceGetPersistenceMode": 1,
        "nvmlDeviceGetMaxPcieLinkGeneration": 4,
        "nvmlDeviceGetMaxPcieLinkWidth": 16,
        "nvmlDeviceGetCurrPcieLinkGeneration": 4,
        "nvmlDeviceGetCurrPcieLinkWidth": 16,
        "nvmlDeviceGetTemperature": 45,
        "nvmlDeviceGetCurrentClocksEventReasons": 0x4 | 0x20 | 0x1,
    }

    def answering(name):
        def answer(*arguments):
            value = answers[name]
            if isinstance(value, Exception):
                raise value
            return value(*arguments) if callable(value) else value

        return answer

    for name in answers:
        assert hasattr(pynvml, name), f"NVML has no {name}"
        monkeypatch.setattr(pynvml, name, answering(name))
    return answers


def error(code: str) -> Exception:
    return pynvml.NVMLError(getattr(pynvml, code))


@pytest.mark.skipif(gpu.gpu_present(), reason="there is a GPU")
def test_a_machine_without_a_driver_says_so():
    assert gpu.probe() == "there is no CUDA driver (the NVML library is not installed)"
    assert gpu.identity() is None
    assert gpu_state.state() is None
    assert gpu_state.settings() is None
    assert gpu_state.driver_versions()[:2] == ("none", "none")


@pytest.mark.parametrize(
    ("call", "code", "line"),
    [
        ("nvmlInit", "NVML_ERROR_DRIVER_NOT_LOADED", "the NVIDIA driver is not loaded"),
        ("nvmlInit", "NVML_ERROR_LIBRARY_NOT_FOUND", "there is no CUDA driver (the NVML library is not installed)"),
        ("nvmlDeviceGetHandleByIndex", "NVML_ERROR_INVALID_ARGUMENT", "no NVIDIA GPU is visible"),
        ("nvmlInit", "NVML_ERROR_NO_PERMISSION", "NVML: Insufficient Permissions"),
    ],
)
def test_each_thing_that_is_missing_has_its_own_line(call, code, line, card):
    card[call] = error(code)
    assert gpu.probe() == line
    assert gpu.identity() is None


@pytest.mark.parametrize("hidden", ["", "-1"])
def test_hidden_cards_have_a_line_of_their_own(hidden, card, monkeypatch):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", hidden)
    assert "CUDA_VISIBLE_DEVICES hides all of them" in gpu.probe()


@pytest.mark.parametrize(("visible", "wanted"), [("3,1", "card 3"), (UUID[:12], "card 2"), (UUID, "card 2")])
def test_the_card_is_the_first_that_is_visible(visible, wanted, card, monkeypatch):
    card["nvmlDeviceGetCount"] = 4
    card["nvmlDeviceGetHandleByIndex"] = lambda i: f"card {i}"
    card["nvmlDeviceGetUUID"] = lambda handle: UUID if handle == "card 2" else "GPU-another"
    card["nvmlDeviceGetHandleByUUID"] = {UUID: "card 2"}.__getitem__
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    with gpu.card() as chosen:
        assert chosen == wanted


def test_cards_that_a_scheduler_keeps_from_the_job_do_not_count(card, monkeypatch):
    """CUDA's card 0 is the first that may be opened."""

    def handle(i):
        if i < 2:
            raise error("NVML_ERROR_NO_PERMISSION")
        return f"card {i}"

    card["nvmlDeviceGetCount"] = 4
    card["nvmlDeviceGetHandleByIndex"] = handle
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0")
    with gpu.card() as chosen:
        assert chosen == "card 2"


def test_cuda_counts_cards_as_nvml_does():
    assert os.environ["CUDA_DEVICE_ORDER"] == "PCI_BUS_ID"


def test_identity_and_environment_hold_what_a_reader_needs(card):
    assert gpu.identity() == Accelerator(
        name="NVIDIA A100-SXM4-40GB", uuid=UUID, compute_capability="8.0", memory_bytes=40 * GIB, partitioned=False
    )
    shown = environment.__wrapped__()
    assert shown.accelerator == f"NVIDIA A100-SXM4-40GB, 40.0 GiB, compute capability 8.0, {UUID}"
    assert (shown.driver, shown.cuda_driver) == ("615.71", "13.4")
    assert shown.gpu == gpu_state.settings()
    assert (shown.gpu.power_limit_w, shown.gpu.ecc, shown.gpu.persistence_mode) == (400, True, True)
    assert (shown.gpu.pcie_generation_max, shown.gpu.pcie_width_max) == (4, 16)
    assert (shown.gpu.sm_clock_max_mhz, shown.gpu.memory_clock_max_mhz) == (1410, 1410)


def test_a_partition_is_told_from_a_card(card):
    card["nvmlDeviceGetMigMode"] = (pynvml.NVML_DEVICE_MIG_ENABLE, pynvml.NVML_DEVICE_MIG_ENABLE)
    assert gpu.identity().partitioned is True
    card["nvmlDeviceGetMigMode"], card["nvmlDeviceIsMigDeviceHandle"] = error("NVML_ERROR_NOT_SUPPORTED"), 1
    assert gpu.identity().partitioned is True
    answer = registry.get("tensorrt_rtx").support(precision("fp16"), identity.identity())
    assert answer.status is Status.UNAVAILABLE
    assert "MIG" in answer.reason


def test_the_state_names_what_slows_the_card_and_who_else_uses_it(card):
    card["nvmlDeviceGetComputeRunningProcesses"] = [
        SimpleNamespace(pid=os.getpid(), usedGpuMemory=GIB),
        SimpleNamespace(pid=4242, usedGpuMemory=GIB),
    ]
    card["nvmlDeviceGetPowerUsage"] = error("NVML_ERROR_NOT_SUPPORTED")
    now = gpu_state.state()
    assert now.slowed_by == ("software power cap", "software thermal slowdown")
    assert now.other_processes == (4242,)
    assert now.power_w is None
    assert now.sm_clock_mhz == 1200
    assert (now.temperature_c, now.pcie_width) == (45, 16)


def test_device_memory_is_this_processs_own(card):
    card["nvmlDeviceGetMemoryInfo"] = SimpleNamespace(total=40 * GIB, used=30 * GIB)
    own = SimpleNamespace(pid=os.getpid(), usedGpuMemory=2 * GIB)
    card["nvmlDeviceGetComputeRunningProcesses"] = [own, SimpleNamespace(pid=4242, usedGpuMemory=28 * GIB)]
    with DeviceMemory() as memory:
        own.usedGpuMemory = 3 * GIB
    assert memory.peak() == MemoryUse(used_bytes=3 * GIB, total_bytes=40 * GIB, source="process")


def test_in_a_container_device_memory_is_what_the_card_holds_more_than_before(card):
    used = card["nvmlDeviceGetMemoryInfo"]
    card["nvmlDeviceGetComputeRunningProcesses"] = [SimpleNamespace(pid=4242, usedGpuMemory=5 * GIB)]
    with DeviceMemory() as memory:
        used.used = 6 * GIB
    assert memory.peak() == MemoryUse(used_bytes=5 * GIB, total_bytes=40 * GIB, source="card")


@pytest.mark.skipif(gpu.gpu_present(), reason="there is a GPU")
def test_without_a_gpu_there_is_no_device_memory():
    with DeviceMemory() as memory:
        pass
    assert memory.peak() == MemoryUse(used_bytes=0, total_bytes=0, source="")


@pytest.mark.parametrize(
    ("driver", "devices", "line"),
    [
        ((0, 0), (35, None), "there is no CUDA driver"),
        ((0, 12020), (35, None), r"the driver's CUDA 12\.2 is older than the runtime's \d+\.\d"),
        ((0, 13040), (100, None), r"CUDA finds no device \(cudaErrorNoDevice\)"),
        ((0, 13040), (0, 0), "CUDA finds no device"),
    ],
    ids=["no driver", "old driver", "no device", "none visible"],
)
def test_cuda_says_what_is_missing(driver, devices, line, monkeypatch):
    from cuda.bindings import runtime

    from stagebench.engines import cuda

    monkeypatch.setattr(runtime, "cudaDriverGetVersion", lambda: driver)
    monkeypatch.setattr(runtime, "cudaGetDeviceCount", lambda: devices)
    with pytest.raises(RefusedError, match=line):
        cuda.require()
