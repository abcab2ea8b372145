"""Extract an archive into class folders, and write their manifest."""

from pathlib import Path
from typing import TYPE_CHECKING

from stagebench.dataset.archive import extract_archive
from stagebench.job import stage

if TYPE_CHECKING:
    from snakemake.iocontainers import snakemake


if __name__ == "__main__":
    with stage.logged(snakemake.log[0], snakemake):
        extract_archive(
            archive=Path(snakemake.input.archive),
            archive_record=Path(snakemake.input.archive_record),
            images=Path(snakemake.output.images),
            manifest=Path(snakemake.output.manifest),
            record=Path(snakemake.output.record),
            **snakemake.params.settings,
            workers=snakemake.threads,
        )
