"""Fetch a checkpoint and check its SHA-256."""

from pathlib import Path
from typing import TYPE_CHECKING

from stagebench.job import stage
from stagebench.model.weights import fetch_weights

if TYPE_CHECKING:
    from snakemake.iocontainers import snakemake


if __name__ == "__main__":
    with stage.logged(snakemake.log[0], snakemake):
        fetch_weights(
            weights=Path(snakemake.output.weights),
            record=Path(snakemake.output.record),
            **snakemake.params.settings["weights"],
            architecture=snakemake.params.settings["architecture"],
        )
