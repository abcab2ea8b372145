"""Collect the records of all cells into one table."""

from pathlib import Path
from typing import TYPE_CHECKING

from stagebench import stage
from stagebench.report.table import make_table

if TYPE_CHECKING:
    from snakemake.iocontainers import snakemake


if __name__ == "__main__":
    with stage.logged(snakemake.log[0], snakemake):
        make_table(rows=stage.located(snakemake.params.rows, snakemake.input), table=Path(snakemake.output.table))
