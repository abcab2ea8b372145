"""Make the archive of the embedded default's data set."""

from pathlib import Path
from typing import TYPE_CHECKING

from stagebench.dataset.sample import make_archive
from stagebench.job import stage

if TYPE_CHECKING:
    from snakemake.iocontainers import snakemake


if __name__ == "__main__":
    with stage.logged(snakemake.log[0], snakemake):
        make_archive(
            archive=Path(snakemake.output.archive),
            record=Path(snakemake.output.record),
            images=snakemake.params.settings["images"],
        )
