"""Measure a model in torch, the reference."""

from pathlib import Path
from typing import TYPE_CHECKING

from stagebench.job import stage
from stagebench.measure.cell import ImageFiles
from stagebench.measure.validation import ValidationFiles, ValidationSettings, measure_validation

if TYPE_CHECKING:
    from snakemake.iocontainers import snakemake


if __name__ == "__main__":
    with stage.logged(snakemake.log[0], snakemake):
        measure_validation(
            ValidationSettings.model_validate(snakemake.params.settings),
            ValidationFiles(
                weights=Path(snakemake.input.weights),
                weights_record=Path(snakemake.input.weights_record),
                device_record=Path(snakemake.input.device),
                images=ImageFiles(
                    manifest=Path(snakemake.input.manifest),
                    dataset_record=Path(snakemake.input.dataset_record),
                ),
                record=Path(snakemake.output.record),
                samples=Path(snakemake.output.samples),
                engine=Path(snakemake.output.engine),
                build_record=Path(snakemake.output.build_record),
            ),
            tries_left=snakemake.resources.tries_left,
            timeout_s=snakemake.params.timeout_s,
        )
