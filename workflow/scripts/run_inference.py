"""Measure an engine over a data set."""

from pathlib import Path
from typing import TYPE_CHECKING

from stagebench.job import stage
from stagebench.measure.cell import CellFiles, CellSettings, ImageFiles, measure_inference

if TYPE_CHECKING:
    from snakemake.iocontainers import snakemake


if __name__ == "__main__":
    with stage.logged(snakemake.log[0], snakemake):
        measure_inference(
            CellSettings.model_validate(snakemake.params.settings),
            CellFiles(
                engine=Path(snakemake.input.engine),
                build_record=Path(snakemake.input.build_record),
                device_record=Path(snakemake.input.device),
                images=ImageFiles(
                    manifest=Path(snakemake.input.manifest),
                    dataset_record=Path(snakemake.input.dataset_record),
                    pixels=stage.optional(snakemake.input.pixels),
                    pixels_record=stage.optional(snakemake.input.pixels_record),
                ),
                record=Path(snakemake.output.record),
                samples=Path(snakemake.output.samples),
            ),
            tries_left=snakemake.resources.tries_left,
            timeout_s=snakemake.params.timeout_s,
        )
