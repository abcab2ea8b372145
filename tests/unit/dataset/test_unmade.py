"""A data set's stages whose source was not made: its state is passed on, nothing is read, nothing is raised."""

import pytest
from support.stages import PREPROCESSING

from stagebench.dataset.archive import extract_archive
from stagebench.dataset.pixels import decode_pixels
from stagebench.records.data import ArchiveRecord, DatasetRecord, PixelsRecord
from stagebench.records.envelope import FileEntry, Stopwatch
from stagebench.vocabulary import failed, unavailable, unsupported


def extract(folder):
    """Extract an archive that is not there."""
    places = {"images": folder / "images", "manifest": folder / "manifest.csv", "record": folder / "dataset.json"}
    extract_archive(folder / "archive.tar", folder / "archive.json", **places, labels="sample", expected=32)
    assert not list(places["images"].iterdir())  # Snakemake wants the folder
    return DatasetRecord.read(places["record"]), places["manifest"]


def decode(folder):
    """Decode the images of a data set that is not there."""
    places = {"pixels": folder / "pixels.npy", "record": folder / "pixels.json"}
    sources = (folder / "manifest.csv", folder / "dataset.json")
    decode_pixels(*sources, **places, preprocessing=PREPROCESSING, subset=None, threads=1)
    return PixelsRecord.read(places["record"]), places["pixels"]


@pytest.mark.parametrize("make_state", [failed, unavailable, unsupported])
@pytest.mark.parametrize(
    ("source", "stages"),
    [(ArchiveRecord, [extract]), (DatasetRecord, [decode]), (ArchiveRecord, [extract, decode])],
    ids=["extract_archive", "decode_pixels", "both"],
)
def test_the_state_of_a_source_is_passed_on(source, stages, make_state, tmp_path):
    state = make_state("killed by SIGKILL (out of memory?)")
    source.make(Stopwatch(), state=state).write(tmp_path / f"{source.KIND}.json")
    for stage in stages:
        record, output = stage(tmp_path)
        assert record.state == state
        assert record.origin == source.KIND
        assert record.result is None
        assert list(record.outputs.values()) == [FileEntry.of(output)]
        wanted = f"nothing was made: {state.status.value} ({state.reason}); its record has the details\n"
        assert output.read_text() == wanted
