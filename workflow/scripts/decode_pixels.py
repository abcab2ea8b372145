"""Decode all images once, into one file of pixels."""

from pathlib import Path
from typing import TYPE_CHECKING

from stagebench import stage
from stagebench.dataset.pixels import decode_pixels

if TYPE_CHECKING:
    from snakemake.iocontainers import snakemake


if __name__ == "__main__":
    with stage.logged(snakemake.log[0], snakemake):
        decode_pixels(
            manifest=Path(snakemake.input.manifest),
            dataset_record=Path(snakemake.input.dataset_record),
            pixels=Path(snakemake.output.pixels),
            record=Path(snakemake.output.record),
            preprocessing=snakemake.params.preprocessing,
            subset=snakemake.params.subset,
            threads=snakemake.threads,
        )
