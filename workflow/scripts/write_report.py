"""Write the report of all cells."""

from pathlib import Path
from typing import TYPE_CHECKING

from stagebench import stage
from stagebench.report.markdown import write_report

if TYPE_CHECKING:
    from snakemake.iocontainers import snakemake


if __name__ == "__main__":
    with stage.logged(snakemake.log[0], snakemake):
        write_report(
            rows=stage.located(snakemake.params.rows, snakemake.input.records),
            devices=dict(zip(snakemake.params.devices, map(str, snakemake.input.devices), strict=True)),
            notes=snakemake.params.notes,
            report=Path(snakemake.output.report),
        )
