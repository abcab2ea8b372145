"""A job killed at random moments: after plain reruns the same bytes as undisturbed, resumed where that is promised."""

from __future__ import annotations

import contextlib
import io
import os
import random
import re
import subprocess
import sys
from functools import partial
from pathlib import Path

import psutil
import pytest
from PIL import Image
from support.project import Project, copy_of_repository, job_of, until
from support.server import serving
from support.stages import PREPROCESSING, archive_record, pack_archive

from stagebench.dataset.archive import extract_archive
from stagebench.dataset.decode.images import DECODER
from stagebench.dataset.labels.kinds import resolve, sample_name
from stagebench.dataset.pixels import decode_pixels
from stagebench.records.io import digest

IMAGES = 1000
KILLS = 3  # of each job
RECIPE = PREPROCESSING.recipe(DECODER)
TARGET = f"results/datasets/killed/pixels/{RECIPE}.npy"


def pictures():
    """Small JPEGs, each with its number as a comment: different bytes, some of them different pixels."""
    files = []
    for shade in range(16):
        buffer = io.BytesIO()
        Image.linear_gradient("L").resize((100, 80)).rotate(shade * 20).convert("RGB").save(buffer, "JPEG")
        files.append(buffer.getvalue())
    for number in range(1, IMAGES + 1):
        data = files[number % len(files)]
        yield sample_name("val", number), data[:2] + b"\xff\xfe\x00\x0a" + f"{number:08d}".encode() + data[2:]


@contextlib.contextmanager
def started(project, name):
    """Snakemake, working towards the pixels."""
    arguments = ["--cores", "2", TARGET, "--configfile", "small.yaml"]
    with (project.folder / f"{name}.txt").open("w") as output:
        process = subprocess.Popen(
            [sys.executable, "-m", "snakemake", *arguments],
            cwd=project.folder,
            env={**os.environ, "no_proxy": "127.0.0.1"},
            stdout=output,
            stderr=subprocess.STDOUT,
        )
        try:
            yield process
        finally:
            process.kill()
            process.wait()


@pytest.fixture(scope="module")
def archive(tmp_path_factory):
    return pack_archive(tmp_path_factory.mktemp("archive") / "archive.tar", pictures())


@pytest.fixture
def server(archive):
    with serving(archive.read_bytes(), "archive.tar") as started:
        yield started


@pytest.fixture
def project(repository, tmp_path, archive, server):
    copy_of_repository(repository, tmp_path / "project")
    made = Project(tmp_path / "project")
    entry = {"url": server.url, "md5": digest(archive, "md5")}
    made.configure(
        datasets={"sample": {"images": 32}, "killed": {"archive": entry, "labels": "sample", "images": IMAGES}}
    )
    return made


def undisturbed(archive, folder: Path):
    """The digests of what the stages leave when nobody kills them: path -> SHA-256."""
    record = archive_record(folder / "archive.json", archive)
    places = {"images": folder / "images", "manifest": folder / "manifest.csv", "record": folder / "dataset.json"}
    extract_archive(archive, record, **places, labels="sample", expected=IMAGES)
    decode_pixels(
        places["manifest"],
        places["record"],
        folder / f"pixels/{RECIPE}.npy",
        folder / f"pixels/{RECIPE}.json",
        preprocessing=PREPROCESSING,
        subset=None,
        threads=2,
    )
    return digests(folder)


def digests(folder: Path):
    """The digests of a data set's files, records apart: these hold times."""
    files = [folder / "manifest.csv", folder / f"pixels/{RECIPE}.npy", *(folder / "images").rglob("*.JPEG")]
    return {str(path.relative_to(folder)): digest(path) for path in files}


def test_killed_jobs_end_in_the_same_bytes(project, archive, server, tmp_path):
    chance = random.Random(2012)
    folder = project.folder / "results/datasets/killed"
    part = project.folder / "resources/killed/archive.tar.part"
    journal = folder / f"pixels/{RECIPE}.npy.part.journal"
    length = archive.stat().st_size
    server.stops = sorted(chance.randrange(length // 10, length) for _ in range(KILLS))
    label_of = resolve("sample").of

    def downloaded():
        return server.reached.is_set() and part.exists() and part.stat().st_size > server.begins[-1]

    def extracted(number):
        name = sample_name("val", number)
        return (folder / "images.part" / label_of(name).wnid / name).exists()

    def decoded(blocks):
        return journal.exists() and len(journal.read_text().splitlines()) > blocks

    numbers = [chance.randrange(1, IMAGES) for _ in range(KILLS)]
    blocks = sorted(chance.sample(range(1, IMAGES // 128), KILLS))
    moments = [
        *[("download_archive", downloaded)] * KILLS,
        *[("extract_dataset", partial(extracted, number)) for number in numbers],
        *[("decode_pixels", partial(decoded, count)) for count in blocks],
    ]
    finals = {
        "download_archive": project.folder / "resources/killed/archive.json",
        "extract_dataset": folder / "dataset.json",
        "decode_pixels": project.folder / TARGET,
    }
    resumed = []
    for number, (rule, moment) in enumerate(moments):
        with started(project, f"killed-{number}-{rule}") as snakemake:
            job = until(lambda rule=rule: job_of(snakemake, rule), snakemake)
            until(moment, snakemake)
            workers = job.children(recursive=True)
            job.kill()
            assert snakemake.wait(60) != 0
            assert not finals[rule].exists()
            _, alive = psutil.wait_procs(workers, timeout=10)
            assert not alive, "something writes on after its job was killed"
        server.reached.clear()
        if rule == "decode_pixels":
            log = (project.folder / f"logs/decode_pixels/killed/{RECIPE}.log").read_text()
            resumed += [int(images) for images in re.findall(rf"(\d+) of {IMAGES} images are there, going on", log)]
    with started(project, "last") as snakemake:
        assert snakemake.wait(120) == 0, (project.folder / "last.txt").read_text()
    wanted = undisturbed(archive, tmp_path / "undisturbed")
    assert len(wanted) == IMAGES + 2
    assert digests(folder) == wanted
    assert digest(project.folder / "resources/killed/archive.tar") == digest(archive)
    assert len(server.begins) == KILLS + 1
    assert server.begins[0] == 0 < server.begins[1]
    assert server.begins == sorted(server.begins), "a download did not go on where the one before it was killed"
    assert len(resumed) == KILLS - 1
    assert 0 < resumed[0] < resumed[1], "the pixels did not go on where they were"
    assert not list(project.folder.rglob("*.part*"))
