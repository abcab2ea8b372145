"""Write down what machine a device is."""

from pathlib import Path
from typing import TYPE_CHECKING

from stagebench.host.identity import probe
from stagebench.job import stage

if TYPE_CHECKING:
    from snakemake.iocontainers import snakemake


if __name__ == "__main__":
    with stage.logged(snakemake.log[0], snakemake):
        probe(
            name=snakemake.wildcards.device,
            **snakemake.params.settings,
            record=Path(snakemake.output.record),
        )
