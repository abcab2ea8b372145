"""The workflow on a real Slurm: what a user of a cluster relies on, asserted from Slurm's own records.

Three projects share the node: the embedded default, cells of an engine for GPUs, and a small network that
the tests give trouble. The embedded default runs without a scheduler, too, to be compared.
Memory limits are scheduled here, not enforced: that takes control groups.
"""

from __future__ import annotations

import csv
import json
import os
import re
import shutil

import pytest
from cluster import NODE, output, until
from support.project import Project
from support.records import edit_record

pytestmark = pytest.mark.slurm

TIMED = ("run_inference", "run_validation")
ON_DEVICES = {"probe_device", "build_engine", *TIMED}
# The columns of table.csv that no clock decides.
STEADY = ("device", "model", "engine", "precision", "bs", "acc_infer", "acc_val", "status", "note")


def table(project: Project) -> list[dict[str, str]]:
    with (project.folder / "results/table.csv").open() as file:
        return list(csv.DictReader(file))


def state_of(project, rule: str, state: str):
    """The first job of a rule in that state, or None."""
    return next((job for job in project.jobs(rule) if job["JobState"] == state), None)


def test_too_little_time_is_reported_and_grows_and_an_interrupted_run_goes_on(tiny):
    target = "results/inference/local/tiny/onnxruntime/fp32/batch4.json"
    # So many passes that no limit of this test is enough, and a limit of as many minutes as the attempt's number. Half
    # the node is left to others meanwhile.
    tiny.two_devices(measurement={"repeats": 10_000_000})
    little = {"runtime": "attempt", "slurm_extra": "''", "cpus_per_task": 1}
    tiny.edit_profile(lambda profile: profile["set-resources"]["run_inference"].update(little))
    with tiny.submit(target) as run:
        until("the end of the first attempt", lambda: state_of(tiny, "run_inference", "TIMEOUT") is not None)
        until("the second attempt", lambda: state_of(tiny, "run_inference", "RUNNING") is not None)
        first, second = tiny.jobs("run_inference")
        assert (first["TimeLimit"], second["TimeLimit"]) == ("00:01:00", "00:02:00")
        assert memory(second) == 2 * memory(first)

        assert run.interrupt() != 0
    said = run.log.read_text()
    assert "'TIMEOUT'" in said
    assert re.search(r"rule run_inference was ended from outside \(SIGTERM\) after \d+ s; it had runtime=1 min", said)
    until("its jobs", lambda: {job["JobState"] for job in tiny.jobs()} & {"RUNNING", "PENDING"} == set())
    assert tiny.jobs()[-1]["JobState"] == "CANCELLED"

    tiny.two_devices()
    tiny.edit_profile()
    done = len(tiny.jobs())
    tiny.submit(target).finish()
    assert {job.rule for job in tiny.jobs()[done:]} == {"run_inference"}


def test_a_drained_node_delays_and_a_cancelled_job_is_tried_again(tiny):
    output("scontrol", "update", f"nodename={NODE}", "state=drain", "reason=maintenance")
    with tiny.submit("results/report.md") as run:
        try:
            until("a job that waits", lambda: state_of(tiny, "probe_device", "PENDING") is not None)
            until("Slurm's reason", lambda: "DRAINED" in output("squeue", "-h", "-t", "PD", "-o", "%r"))
            assert not (tiny.folder / "results/report.md").exists()
        finally:
            output("scontrol", "update", f"nodename={NODE}", "state=resume")

        until("a job that measures", lambda: state_of(tiny, "run_inference", "RUNNING") is not None)
        cancelled = state_of(tiny, "run_inference", "RUNNING")
        output("scancel", cancelled["JobId"])
        said = run.finish()
    assert "CANCELLED" in said
    again = [job for job in tiny.jobs("run_inference") if job["Comment"] == cancelled["Comment"]]
    assert [job["JobState"] for job in again] == ["CANCELLED", "COMPLETED"]
    assert [row["status"] for row in table(tiny)] == ["ok", "ok"]


def test_two_devices_are_kept_apart(tiny):
    """Each has a probe, an engine and a row of its own; data and models were prepared once, before."""
    rows = table(tiny)
    assert [row["device"] for row in rows] == ["local", "other"]
    ran = [job for job in tiny.jobs() if job["JobState"] == "COMPLETED"]
    assert {job.rule for job in ran} == ON_DEVICES
    for rule in ON_DEVICES:
        jobs = [job for job in ran if job.rule == rule]
        partitions = {job["Comment"].split("wildcards_")[1].split("_")[0]: job["Partition"] for job in jobs}
        assert partitions == {"local": "main", "other": "other"}
    # `local` is the node that the probe got, and the others are sent to it; any node serves `other`.
    assert {job["ReqNodeList"] for job in ran if job["Partition"] == "main" and job.rule != "probe_device"} == {NODE}
    assert {job["ReqNodeList"] for job in ran if job["Partition"] == "other"} == {"(null)"}
    report = (tiny.folder / "results/report.md").read_text()
    assert re.search(r"^\| +\| local +\| other +\|$", section_of(report, "Environment"), flags=re.MULTILINE)
    assert f"* Measured on: {NODE}" in report
    [line] = re.findall(r"^\* Images read from: (.*)$", report, flags=re.MULTILINE)
    local, other = (re.fullmatch(r"`(.*?)` \((.*)\)", place) for place in line.split("; "))
    assert local[1] == "results/datasets/sample"
    assert other[1].startswith(f"{tiny.folder}/scratch/stagebench-")
    assert other[2].endswith("copied to the machine's own disk first")


def test_foreign_engines_and_foreign_hardware_are_refused(tiny):
    place = "tiny/onnxruntime/fp32/batch4"
    for suffix in (".engine", ".json"):
        own = tiny.folder / f"results/engines/local/{place}{suffix}"
        shutil.copy(own, own.with_suffix(suffix + ".own"))
        shutil.copy(tiny.folder / f"results/engines/other/{place}{suffix}", own)
    record = tiny.folder / "results/devices/other.json"
    before = record.read_text()
    edit_record(record, lambda raw: raw["result"]["identity"].update(cpu="Another CPU"))
    targets = [f"results/inference/{device}/{place}.json" for device in ("local", "other")]
    run = tiny.submit(*targets, "--retries", "0", "--forcerun", "run_inference")
    try:
        assert run.wait() != 0
        said = run.log.read_text()
        assert "foreign engine (device other there, local here)" in said
        assert re.search(r"describes Another CPU, .* but this job runs on .*\(different: cpu\)", said)
    finally:
        record.write_text(before)
        for suffix in (".engine", ".json"):
            own = tiny.folder / f"results/engines/local/{place}{suffix}"
            own.with_suffix(suffix + ".own").replace(own)


def test_gpu_jobs_ask_for_the_gpu_and_know_which_they_were_given(gpu_run):
    project, run = gpu_run
    run.finish()
    asked = project.jobs()
    assert [job.rule for job in asked] == ["probe_device", "cells_build_engine_run_inference"]
    for job in asked:
        assert job["TresPerJob"] == "gres:gpu:1"
    for batch in (4, 8):
        file = project.folder / f"results/inference/local/tiny/tensorrt/fp32/batch{batch}.json"
        record = json.loads(file.read_text())
        assert record["status"] == "unavailable"  # it is only counted: there is no driver
        assert record["ran_on"]["gpus_given"] == "0"


def memory(job) -> int:
    """The memory that a job asked for, in MB."""
    return int(re.search(r"mem=(\d+)M", job["TRES"])[1])


def assert_apart(timed, others) -> None:
    """No timed job ran while another one did."""
    for one in timed:
        for other in others:
            if one["JobId"] != other["JobId"] and other["StartTime"] != "Unknown":
                assert one["EndTime"] <= other["StartTime"] or other["EndTime"] <= one["StartTime"], (one, other)


def test_the_embedded_default_reports_what_a_local_run_reports(default_run, local_run, tiny):
    (project, run), (local, run_here) = default_run, local_run
    run.finish()
    run_here.finish()

    jobs = project.jobs()
    assert {job["JobState"] for job in jobs} == {"COMPLETED"}
    timed = [job for job in jobs if job.rule in TIMED]
    assert len(timed) == 5
    assert {job["OverSubscribe"] for job in timed} == {"NO"}
    assert {job["NumCPUs"] for job in timed} == {str(os.cpu_count())}
    assert_apart(timed, [*jobs, *tiny.jobs()])

    here, there = table(local), table(project)
    assert [[row[name] for name in STEADY] for row in there] == [[row[name] for name in STEADY] for row in here]
    assert {row["status"] for row in there} == {"ok"}
    reports = [(each.folder / "results/report.md").read_text() for each in (project, local)]
    for section in ("Where it comes from", "What each figure means"):
        # Data set, photographs, and every file behind the rows with its digest.
        assert len({section_of(report, section) for report in reports}) == 1
    assert headings(reports[0]) == headings(reports[1])


def headings(report: str) -> list[str]:
    return re.findall(r"^#+ .*$", report, flags=re.MULTILINE)


def section_of(report: str, title: str) -> str:
    return re.search(rf"^## {title}$(.*?)(?=^## |\Z)", report, flags=re.MULTILINE | re.DOTALL)[1]
