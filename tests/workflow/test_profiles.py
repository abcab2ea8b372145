"""Profiles: what they have in common, what they ask a scheduler for, and how planning grows."""

from __future__ import annotations

import base64
import json
import re
import subprocess
import sys
import time
from pathlib import Path

import pytest
import yaml
from support.project import Project, copy_of_repository

ROOT = Path(__file__).resolve().parent.parent.parent
PROFILES = sorted(path.parent.name for path in ROOT.glob("profiles/*/profile.yaml"))
# Lines that every profile repeats, since one replaces the other as a whole.
COMMON = ("rerun-triggers", "rerun-incomplete", "max-checksum-file-size", "keep-going", "show-failed-logs")
ON_DEVICES = ("probe_device", "build_engine", "run_inference", "run_validation")


def profile(name: str) -> dict:
    return yaml.safe_load((ROOT / "profiles" / name / "profile.yaml").read_text())


@pytest.mark.parametrize("name", PROFILES)
def test_every_profile_repeats_what_decides_on_staleness(name):
    assert {key: profile(name).get(key) for key in COMMON} == {key: profile("default")[key] for key in COMMON}
    assert "machine=1" in profile(name)["default-resources"]


@pytest.mark.parametrize("name", [name for name in PROFILES if name != "default"])
def test_a_cluster_s_profile_tries_again_and_knows_the_rules_of_devices(name):
    assert profile(name)["retries"] >= 1
    assert set(profile(name)["set-resources"]) == set(ON_DEVICES)


def test_every_rule_says_its_memory_time_and_disk():
    for file in sorted((ROOT / "workflow/rules").glob("*.smk")):
        for rule in re.split(r"^(?=rule \w+:)", file.read_text(), flags=re.MULTILINE)[1:]:
            name = re.match(r"rule (\w+)", rule)[1]
            resources = re.search(r"^    resources:\n((?:        .*\n)+)", rule, flags=re.MULTILINE)
            assert resources, name
            for needed in ("mem_mb", "runtime", "disk_mb"):
                assert f"{needed}=" in resources[1], f"{name} says nothing of {needed}"


TIMED = ("run_inference", "run_validation")


def test_timing_alone_does_not_depend_on_a_profile():
    """Every rule that is not timed takes one unit of the machine by itself, and timed ones take all of it."""
    seen = 0
    for file in sorted((ROOT / "workflow/rules").glob("*.smk")):
        for rule in re.split(r"^(?=rule \w+:)", file.read_text(), flags=re.MULTILINE)[1:]:
            name = re.match(r"rule (\w+)", rule)[1]
            taken = re.search(r"^        machine=(\w+),$", rule, flags=re.MULTILINE)
            assert taken, name
            assert taken[1] == ("WHOLE_MACHINE" if name in TIMED else "1"), name
            seen += 1
    assert seen > 10


@pytest.fixture(scope="module")
def fresh(tmp_path_factory) -> Project:
    folder = tmp_path_factory.mktemp("profiles") / "project"
    copy_of_repository(ROOT, folder)
    subprocess.run(["git", "init", "--quiet"], cwd=folder, check=True)
    subprocess.run(["git", "add", "--all"], cwd=folder, check=True)
    return Project(folder)


def test_the_manifest_that_kubernetes_gets_is_valid_and_asks_for_the_gpu(fresh):
    """What the executor sends for a device with a GPU, held against Kubernetes' own schema."""
    kubernetes_validate = pytest.importorskip("kubernetes_validate")
    fresh.configure(
        cases={"devices": ["a100"], "engines": ["tensorrt"]}, devices={"a100": {"compute_capability": "8.0"}}
    )
    edited = fresh.folder / "profiles/kubernetes/profile.yaml"
    storage = fresh.folder / "storage"
    storage.mkdir()
    text = edited.read_text().replace("/mnt/stagebench", str(storage)).replace("'local': 'n2", "'a100': 'n2")
    edited.write_text(text)
    done = fresh.command(
        sys.executable,
        "tests/kubernetes_standin.py",
        "jobs",
        "results/devices/a100.json",
        *("--workflow-profile", "profiles/kubernetes", "--configfile", "small.yaml"),
    )
    sent = list((fresh.folder / "jobs").glob("*.json"))
    assert len(sent) == 1, done.stdout + done.stderr
    manifest = json.loads(sent[0].read_text())
    kubernetes_validate.validate(manifest, kubernetes_validate.latest_version(), strict=True)
    pod = manifest["spec"]["template"]["spec"]
    container = pod["containers"][0]
    assert container["resources"]["limits"]["nvidia.com/gpu"] == "1"
    assert container["resources"]["limits"]["memory"] == "1000M"
    assert container["image"] == profile("kubernetes")["container-image"]
    assert pod["nodeSelector"] == {"node.kubernetes.io/instance-type": "n2-standard-8"}
    assert pod["tolerations"][0]["key"] == "nvidia.com/gpu"
    assert [entry["name"] for entry in container["env"]] == ["STAGEBENCH_TRIES"]


def test_a_job_knows_how_often_it_is_tried(fresh):
    """Memory that ran out is a row at the last attempt only: the number is part of what the pods get."""
    fresh.configure()
    storage = fresh.folder / "another"
    storage.mkdir()
    done = fresh.command(
        *(sys.executable, "tests/kubernetes_standin.py", "more-jobs"),
        "results/inference/local/tiny/onnxruntime/fp32/batch4.json",
        *("--workflow-profile", "profiles/kubernetes", "--configfile", "small.yaml"),
        *("--default-storage-prefix", str(storage), "--nolock"),
    )
    sent = fresh.folder / "more-jobs/environment"
    assert sent.exists(), done.stdout + done.stderr
    tries = base64.b64decode(json.loads(sent.read_text())["stagebench_tries"]).decode()
    assert int(tries) == 1 + profile("kubernetes")["retries"]


# 2 engines x 5 precisions x 100 batch sizes.
THOUSAND = {
    "cases": {
        "engines": ["onnxruntime", "openvino"],
        "precisions": ["fp32", "tf32", "fp16", "bf16", "int8"],
        "batch_sizes": list(range(1, 101)),
    }
}


# Runs a command and tells its peak memory, in KiB.
MEASURED = """
import resource, subprocess, sys
subprocess.run(sys.argv[1:], check=True)
print(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss)
"""


def test_a_thousand_cells_are_planned_quickly_and_in_little_memory(fresh):
    """Held against the plan of one cell, so that a slow machine is no failure."""
    one = {"cases": {"engines": ["noop"], "precisions": ["fp32"], "batch_sizes": [1]}}
    seconds, peak = {}, 0
    for name, config in (("one", one), ("thousand", THOUSAND)):
        (fresh.folder / f"{name}.yaml").write_text(yaml.safe_dump(config))
        begin = time.perf_counter()
        done = fresh.command(
            *(sys.executable, "-c", MEASURED),
            *(sys.executable, "-m", "snakemake", "results/report.md", "--dry-run", "--quiet", "all"),
            *("--workflow-profile", "profiles/slurm", "--configfile", f"{name}.yaml"),
        )
        seconds[name] = time.perf_counter() - begin
        assert done.returncode == 0, done.stdout + done.stderr
        peak = int(done.stdout.split()[-1])
    assert seconds["thousand"] < 12 * seconds["one"], seconds
    assert peak < 2**20
