"""Link extracted images into class folders and write their manifest."""

from pathlib import Path
from typing import TYPE_CHECKING

from stagebench.dataset.folder import link_folder
from stagebench.job import stage

if TYPE_CHECKING:
    from snakemake.iocontainers import snakemake


if __name__ == "__main__":
    with stage.logged(snakemake.log[0], snakemake):
        link_folder(
            folder=Path(snakemake.params.settings["folder"]).expanduser(),
            images=Path(snakemake.output.images),
            manifest=Path(snakemake.output.manifest),
            record=Path(snakemake.output.record),
            labels=snakemake.params.settings["labels"],
            devkit=snakemake.params.settings["devkit"],
            expected=snakemake.params.settings["expected"],
        )
