"""Collect the records of all cells into one table."""

from pathlib import Path
from typing import TYPE_CHECKING

from stagebench.job import stage
from stagebench.report.render.table_csv import make_table
from stagebench.report.rows import row_files

if TYPE_CHECKING:
    from snakemake.iocontainers import snakemake


if __name__ == "__main__":
    with stage.logged(snakemake.log[0], snakemake):
        make_table(
            rows=row_files(snakemake.params.settings["rows"], snakemake.input.records),
            table=Path(snakemake.output.table),
        )
