"""Measure a model in torch, the reference."""

from pathlib import Path
from typing import TYPE_CHECKING

from stagebench import stage
from stagebench.measure.run import measure_validation

if TYPE_CHECKING:
    from snakemake.iocontainers import snakemake


if __name__ == "__main__":
    with stage.logged(snakemake.log[0], snakemake):
        measure_validation(
            weights=Path(snakemake.input.weights),
            weights_record=Path(snakemake.input.weights_record),
            device_record=Path(snakemake.input.device),
            manifest=Path(snakemake.input.manifest),
            dataset_record=Path(snakemake.input.dataset_record),
            record=Path(snakemake.output.record),
            samples=Path(snakemake.output.samples),
            cell=snakemake.params.cell,
            architecture=snakemake.params.architecture,
            preprocessing=snakemake.params.preprocessing,
            subset=snakemake.params.subset,
            measurement=snakemake.params.measurement,
            machine=snakemake.params.machine,
            tries_left=snakemake.resources.tries_left,
        )
