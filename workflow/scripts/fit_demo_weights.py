"""Fit seeded weights to the fitting images of a data set."""

from pathlib import Path
from typing import TYPE_CHECKING

from stagebench.job import stage
from stagebench.model.demo import fit_weights
from stagebench.preprocessing import Preprocessing

if TYPE_CHECKING:
    from snakemake.iocontainers import snakemake


if __name__ == "__main__":
    with stage.logged(snakemake.log[0], snakemake):
        fit_weights(
            weights=Path(snakemake.output.weights),
            record=Path(snakemake.output.record),
            architecture=snakemake.params.settings["architecture"],
            preprocessing=Preprocessing.model_validate(snakemake.params.settings["preprocessing"]),
            manifest=Path(snakemake.input.manifest),
            dataset_record=Path(snakemake.input.dataset_record),
        )
