"""Measure an engine over a data set."""

from pathlib import Path
from typing import TYPE_CHECKING

from stagebench import stage
from stagebench.measure.run import measure_inference

if TYPE_CHECKING:
    from snakemake.iocontainers import snakemake


def optional(path: str | list[str]) -> Path | None:
    """Return the path of an input that may be switched off (an empty list)."""
    return Path(str(path)) if path else None


if __name__ == "__main__":
    with stage.logged(snakemake.log[0], snakemake):
        measure_inference(
            engine_file=Path(snakemake.input.engine),
            build_record=Path(snakemake.input.build_record),
            device_record=Path(snakemake.input.device),
            manifest=Path(snakemake.input.manifest),
            dataset_record=Path(snakemake.input.dataset_record),
            pixels=optional(snakemake.input.pixels),
            pixels_record=optional(snakemake.input.pixels_record),
            record=Path(snakemake.output.record),
            samples=Path(snakemake.output.samples),
            cell=snakemake.params.cell,
            preprocessing=snakemake.params.preprocessing,
            subset=snakemake.params.subset,
            measurement=snakemake.params.measurement,
            machine=snakemake.params.machine,
            tries_left=snakemake.resources.tries_left,
        )
