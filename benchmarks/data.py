"""The data side at ImageNet's full size, against GNU tar, md5sum and torchvision's loader: `make bench-data`.

The archive has the original's shape: 50,000 JPEGs named ILSVRC2012_val_00000001.JPEG and on, side by side. They are
small, and each is different. It comes from a local server that drops the connection twice, through the workflow itself.
"""

from __future__ import annotations

import argparse
import http.server
import io
import logging
import multiprocessing
import os
import subprocess
import sys
import tarfile
import tempfile
import threading
from collections.abc import Callable
from itertools import count as count_up
from itertools import cycle
from pathlib import Path
from typing import Any

import yaml
from pairs import Figure, as_table, figure, ratio_of_rates, ratio_of_times, seconds
from PIL import Image
from project import copy_of_project

from stagebench.dataset import sample, tarstream
from stagebench.dataset.archive import extract_archive
from stagebench.dataset.download import fetch_archive
from stagebench.dataset.pixels import decode_pixels
from stagebench.dataset.transfer import Digest
from stagebench.host import cpus
from stagebench.host.memory import ProcessMemory
from stagebench.preprocessing import Preprocessing
from stagebench.records.data import Archive, ArchiveRecord
from stagebench.records.envelope import FileEntry, Stopwatch
from stagebench.records.io import digest, read_json, remove, write_json

ROOT = Path(__file__).resolve().parent.parent
IMAGES = 50_000
FEWER = 5_000
LARGER = 5_000
REALISTIC = 1_000
OUT = ROOT / "results/bench/data.json"
WORKERS = cpus.usable()
PREPROCESSING = Preprocessing()
_log = logging.getLogger("bench-data")


def photographs(folder: Path) -> list[bytes]:
    """Return the JPEGs of the sample archive."""
    archive = folder / "sample.tar"
    sample.make_archive(archive, folder / "sample.json", images=128)
    return [data for _, data in tarstream.contents(archive)]


def small(data: bytes) -> bytes:
    """Return a photograph at a fifth of its size."""
    image = Image.open(io.BytesIO(data))
    buffer = io.BytesIO()
    image.resize((100, 80)).save(buffer, "JPEG", quality=85)
    return buffer.getvalue()


def numbered(data: bytes, number: int) -> bytes:
    """Return a JPEG with its number in a comment: other bytes, the same pixels."""
    return data[:2] + b"\xff\xfe\x00\x0a" + f"{number:08d}".encode() + data[2:]


def pack(archive: Path, images: list[bytes], count: int) -> None:
    """Write an archive of the original's shape."""
    with tarfile.open(archive, "w", format=tarfile.USTAR_FORMAT) as tar:
        for number, data in zip(range(1, count + 1), cycle(images), strict=False):
            content = numbered(data, number)
            member = tarfile.TarInfo(f"ILSVRC2012_val_{number:08d}.JPEG")
            member.size = len(content)
            tar.addfile(member, io.BytesIO(content))


class Server:
    """Serves one file and drops the first two connections in the middle."""

    def __init__(self, file: Path) -> None:
        drops = [file.stat().st_size // 3, file.stat().st_size // 3]
        self.begins: list[int] = []
        begins = self.begins

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                size = file.stat().st_size
                begin = int((self.headers.get("Range") or "bytes=0-").removeprefix("bytes=").removesuffix("-"))
                begins.append(begin)
                self.send_response(206 if begin else 200)
                if begin:
                    self.send_header("Content-Range", f"bytes {begin}-{size - 1}/{size}")
                self.send_header("ETag", '"one"')
                self.send_header("Content-Length", str(size - begin))
                self.end_headers()
                left = drops.pop() if drops else size - begin
                with file.open("rb") as source:
                    source.seek(begin)
                    while left > 0 and (data := source.read(min(1 << 20, left))):
                        self.wfile.write(data)
                        left -= len(data)

            def log_message(self, *_: Any) -> None:
                pass

        self._server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        threading.Thread(target=self._server.serve_forever, daemon=True).start()
        self.url = f"http://127.0.0.1:{self._server.server_port}/val.tar"

    def close(self) -> None:
        """Stop serving."""
        self._server.shutdown()


def extracted(archive: Path, out: Path, count: int) -> dict[str, Path]:
    """Extract an archive into a new folder by the package and return the paths of what came out."""
    out.mkdir()
    entry = FileEntry(path=archive.as_posix(), md5="0" * 32, bytes=archive.stat().st_size)
    made = Archive(source=archive.as_posix(), fetched=False, photographs=())
    ArchiveRecord.make(Stopwatch(), result=made, outputs={"archive": entry}).write(out / "archive.json")
    paths = outputs(out)
    files = (out / "archive.json", paths["images"], paths["manifest"], paths["record"])
    extract_archive(archive, *files, labels="imagenet", expected=count, workers=WORKERS)
    return paths


def outputs(out: Path) -> dict[str, Path]:
    """Return what extraction leaves in a folder."""
    return {"images": out / "images", "manifest": out / "manifest.csv", "record": out / "dataset.json"}


def peak_mib(work: Callable[..., Any], *arguments: Any) -> float:
    """Return the peak resident memory of a call in a process of its own, in MiB."""
    context = multiprocessing.get_context("spawn")
    receiver, sender = context.Pipe(duplex=False)
    process = context.Process(target=_report_peak, args=(sender, work, arguments))
    process.start()
    sender.close()
    peak = receiver.recv()
    process.join()
    return float(peak)


def _report_peak(sender: Any, work: Callable[..., Any], arguments: tuple[Any, ...]) -> None:
    # Not ru_maxrss: it is handed down from the parent, which holds torch by now.
    meter = ProcessMemory()
    work(*arguments)
    sender.send(meter.peak().used_bytes / 2**20)


def fetch(archive: Path, out: Path) -> None:
    """Link an archive in place and verify it."""
    out.mkdir()
    fetch_archive(out / "archive.tar", out / "archive.json", url=None, path=str(archive), md5=None)


def decode(paths: dict[str, Path], pixels: Path) -> None:
    """Decode the images of a manifest into a file of pixels."""
    decode_pixels(
        paths["manifest"],
        paths["record"],
        pixels,
        pixels.with_suffix(".json"),
        preprocessing=PREPROCESSING,
        subset=None,
        threads=cpus.usable(),
    )


def extraction(archive: Path, folder: Path, count: int, pairs: int) -> tuple[Figure, Figure, Figure]:
    """Extraction against GNU tar, on the same archive by turns.

    Each goes to a new folder, and nothing is deleted before the end: ext4 looks for inodes that were not freed within
    the last minutes, and after 50,000 deletions a new file takes it twenty times as long, whoever makes it.
    """
    numbers = count_up()
    (folder / archive.stem).mkdir()

    def tar() -> None:
        out = folder / archive.stem / f"tar-{next(numbers)}"
        out.mkdir()
        subprocess.run(["tar", "xf", archive, "-C", out], check=True)

    return ratio_of_times(
        lambda: extracted(archive, folder / archive.stem / f"ours-{next(numbers)}", count), tar, pairs
    )


def extractions(archive: Path, images: list[bytes], folder: Path, count: int) -> dict[str, Figure]:
    """Extraction of the small images, and of some whose size is nearer to the original's."""
    ratio, ours, theirs = extraction(archive, folder, count, 5)
    larger = folder / "larger.tar"
    pack(larger, images, LARGER)
    ratio_larger, _, _ = extraction(larger, folder, LARGER, 5)
    return {"extract_ratio": ratio, "extract_s": ours, "tar_s": theirs, "extract_ratio_larger_files": ratio_larger}


def verification(archive: Path) -> dict[str, Figure]:
    """Verification against md5sum, on the same archive by turns."""
    ratio, ours, theirs = ratio_of_times(
        lambda: Digest.of_file("md5", archive).hex(),
        lambda: subprocess.run(["md5sum", archive], check=True, capture_output=True),
        9,
    )
    return {"md5_ratio": ratio, "md5_s": ours, "md5sum_s": theirs}


def memory_of_stages(archive: Path, fewer: Path, folder: Path, count: int) -> dict[str, Figure]:
    """Peak resident memory of each stage with all images over that with a tenth of them; the largest ratio counts."""
    peaks: dict[str, list[float]] = {"fetch": [], "extract": [], "pixels": []}
    for name, tar, images in (("many", archive, count), ("few", fewer, min(FEWER, count))):
        out = folder / name
        peaks["fetch"].append(peak_mib(fetch, tar, folder / f"{name}-fetched"))
        peaks["extract"].append(peak_mib(extracted, tar, out, images))
        peaks["pixels"].append(peak_mib(decode, outputs(out), out / "pixels.npy"))
    ratios = {stage: many / few for stage, (many, few) in peaks.items()}
    return {
        "rss_ratio": figure([max(ratios.values())], "ratio"),
        **{f"rss_ratio_{stage}": figure([ratio], "ratio") for stage, ratio in ratios.items()},
        **{f"rss_mib_{stage}": figure([many], "MiB") for stage, (many, _) in peaks.items()},
    }


def pixels(images: list[bytes], folder: Path) -> dict[str, Figure]:
    """The pixel step against torchvision's ImageFolder and a DataLoader with as many workers, on 500-pixel images."""
    import torch
    from torchvision import datasets, transforms

    archive = folder / "realistic.tar"
    pack(archive, images, REALISTIC)
    paths = extracted(archive, folder / "realistic", REALISTIC)
    workers = cpus.usable()
    chain = transforms.Compose(
        [
            transforms.Resize(256),
            transforms.CenterCrop(224),
            transforms.ToTensor(),
            transforms.Normalize((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)),
        ]
    )

    def loader() -> float:
        loaded = torch.utils.data.DataLoader(
            datasets.ImageFolder(str(paths["images"]), chain), batch_size=64, num_workers=workers
        )
        return REALISTIC / seconds(lambda: [None for _ in loaded])

    def ours() -> float:
        out = folder / "realistic.npy"
        remove(out)
        return REALISTIC / seconds(lambda: decode(paths, out))

    from stagebench.dataset.decode import resample

    resample.load_kernels()  # as the step does for a data set of this size and more
    ratio, mine, theirs = ratio_of_rates(ours, loader, 5)
    return {"pixels_ratio": ratio, "pixels_rate": mine, "loader_rate": theirs}


def workflow(archive: Path, folder: Path, count: int) -> dict[str, Any]:
    """Download with two drops, verification, extraction and pixels through Snakemake; and how long the DAG takes."""
    server = Server(archive)
    entry = {
        "archive": {"url": server.url, "md5": digest(archive, "md5")},
        "labels": "imagenet",
        "images": count,
    }
    models = {"resnet50-bench": {**_model(), "dataset": "bench"}}
    overlay = {"datasets": {"bench": entry}, "models": models}
    project = copy_of_project(ROOT, folder / "project")
    for model in ("resnet50-bench", "resnet50-demo"):
        (project / f"{model}.yaml").write_text(yaml.safe_dump({**overlay, "cases": {"models": [model]}}))
    environment = {**os.environ, "no_proxy": "127.0.0.1"}

    def snakemake(model: str, target: str, *options: str, **how: Any) -> None:
        command = [sys.executable, "-m", "snakemake", "--cores", str(WORKERS), target, *options]
        command += ["--configfile", f"{model}.yaml"]
        subprocess.run(command, cwd=project, env=environment, check=True, **how)

    target = f"results/datasets/bench/pixels/{_recipe()}.npy"
    taken = seconds(lambda: snakemake("resnet50-bench", target))
    server.close()
    assert len(server.begins) == 3, server.begins
    assert server.begins[0] == 0
    assert min(server.begins[1:]) > 0

    def planning(model: str) -> Callable[[], Any]:
        return lambda: snakemake(model, "results/report.md", "-n", "-q", capture_output=True)

    planning("resnet50-bench")()
    _, large, tiny = ratio_of_times(planning("resnet50-bench"), planning("resnet50-demo"), 5)
    return {
        "workflow_s": figure([taken], "s"),
        "dag_extra_s": figure([large["median"] - tiny["median"]], "s"),
        "dag_s": large,
        "dag_sample_s": tiny,
        "requests": server.begins,
    }


def _model() -> dict[str, Any]:
    return {"architecture": "torchvision.models.resnet50", "weights": "demo"}


def _recipe() -> str:
    from stagebench.dataset.decode.images import DECODER

    return PREPROCESSING.recipe(DECODER)


def main() -> None:
    """Measure all, or the parts that are named, and write results/bench/data.json; other parts stay in it."""
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--images", type=int, default=IMAGES)
    arguments.add_argument("parts", nargs="*", help="extraction, verification, pixels, memory, workflow; default: all")
    chosen = arguments.parse_args()
    count = chosen.images
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    OUT.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="data-", dir=OUT.parent) as name:
        folder = Path(name)
        photos = photographs(folder)
        tiny = [small(data) for data in photos]
        archive, fewer = folder / "val.tar", folder / "fewer.tar"
        pack(archive, tiny, count)
        pack(fewer, tiny, min(FEWER, count))
        _log.info("%d images, %.0f MB", count, archive.stat().st_size / 1e6)
        # Extraction first: it forks, and is slower where the parts after it have left threads.
        parts: dict[str, Callable[[], dict[str, Any]]] = {
            "extraction": lambda: extractions(archive, photos, folder, count),
            "verification": lambda: verification(archive),
            "pixels": lambda: pixels(photos, folder),
            "memory": lambda: memory_of_stages(archive, fewer, folder, count),
            "workflow": lambda: workflow(archive, folder, count),
        }
        results = read_json(OUT) if chosen.parts and OUT.exists() else {}
        results |= {"images": count, "archive_bytes": archive.stat().st_size}
        for part in chosen.parts or parts:
            figures = parts[part]()
            _log.info("%s", as_table(figures))
            results |= figures
            write_json(OUT, results)
    _log.info("written to %s", OUT.relative_to(ROOT))


if __name__ == "__main__":
    main()
