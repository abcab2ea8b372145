"""Write down what machine a device is."""

from pathlib import Path
from typing import TYPE_CHECKING

from stagebench import stage
from stagebench.device import probe

if TYPE_CHECKING:
    from snakemake.iocontainers import snakemake


if __name__ == "__main__":
    with stage.logged(snakemake.log[0], snakemake):
        probe(
            name=snakemake.wildcards.device,
            compute_capability=snakemake.params.compute_capability,
            on_device=snakemake.params.on_device,
            record=Path(snakemake.output.record),
        )
