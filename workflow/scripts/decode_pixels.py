"""Decode all images once, into one file of pixels."""

from pathlib import Path
from typing import TYPE_CHECKING

from stagebench.dataset.pixels import decode_pixels
from stagebench.job import stage
from stagebench.preprocessing import Preprocessing

if TYPE_CHECKING:
    from snakemake.iocontainers import snakemake


if __name__ == "__main__":
    with stage.logged(snakemake.log[0], snakemake):
        decode_pixels(
            manifest=Path(snakemake.input.manifest),
            dataset_record=Path(snakemake.input.dataset_record),
            pixels=Path(snakemake.output.pixels),
            record=Path(snakemake.output.record),
            preprocessing=Preprocessing.model_validate(snakemake.params.settings["preprocessing"]),
            subset=snakemake.params.settings["subset"],
            threads=snakemake.threads,
        )
