"""Fetch a data set's archive and check its MD5."""

from pathlib import Path
from typing import TYPE_CHECKING

from stagebench.dataset.download import fetch_archive
from stagebench.job import stage

if TYPE_CHECKING:
    from snakemake.iocontainers import snakemake


if __name__ == "__main__":
    with stage.logged(snakemake.log[0], snakemake):
        fetch_archive(
            archive=Path(snakemake.output.archive),
            record=Path(snakemake.output.record),
            **snakemake.params.settings,
        )
