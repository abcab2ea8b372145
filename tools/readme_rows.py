"""Write five rows of a report into README.md, from results/table.csv.

    python tools/readme_rows.py                  the CPU's name comes from results/report.md
    python tools/readme_rows.py --cpu "Xeon 8480+, 112 CPUs"

Of each engine and precision the row with the largest batch size is taken; measured rows come before the others.
"""

from __future__ import annotations

import argparse
import re
from pathlib import Path
from typing import Any

import marked
import pandas as pd

ROOT = Path(__file__).resolve().parent.parent
COLUMNS = ["device", "engine", "precision", "bs", "p_infer_whole", "p_infer_core", "acc_infer"]
FIGURES = COLUMNS[4:]
ROWS = 5


def chosen(table: pd.DataFrame) -> pd.DataFrame:
    """Return the rows to show, in the table's order."""
    rank = pd.DataFrame({"smaller": table["bs"] != table["bs"].max(), "no_figures": table["status"] != "ok"})
    return table.loc[sorted(rank.sort_values(["smaller", "no_figures"], kind="stable").index[:ROWS])]


def rate(value: float) -> str:
    """Return a rate with three significant digits, or all digits of its whole part."""
    return f"{value:.0f}" if value >= 100 else f"{value:.3g}"


def figures_of(row: dict[str, Any]) -> list[str]:
    """Return the figures of a row as text; of one that was not measured its status and no figures."""
    if row["status"] != "ok":
        return [str(row["status"]), "-", "-"]
    return [rate(row["p_infer_whole"]), rate(row["p_infer_core"]), f"{row['acc_infer']:.3f}"]


def as_markdown(rows: pd.DataFrame, cpu: str) -> str:
    """Return the rows as a table with its caption."""
    lines = [f"| {' | '.join(COLUMNS)} |", f"|{'|'.join(['---'] * 3 + ['--:'] * 4)}|"]
    for row in rows.to_dict("records"):
        named = [str(row[key]) for key in COLUMNS if key not in FIGURES]
        lines.append(f"| {' | '.join([*named, *figures_of(row)])} |")
    models = " and ".join(f"`{name}`" for name in rows["model"].unique())
    return "\n".join([*lines, "", f"{models} on {cpu}; rates in images/s, accuracy (top-1) in %."])


def cpu_of(report: Path) -> str:
    """Return the CPU that a report's environment names: in a list, or in the first column of a table."""
    text = report.read_text() if report.is_file() else ""
    found = re.search(r"^(?:\* CPU: |\| CPU +\| )(.+?) *(?:\||$)", text, flags=re.MULTILINE)
    if found is None:
        raise SystemExit(f"{report}: no CPU in the section Environment; give its name with --cpu")
    return found[1]


def main() -> None:
    """Read the table and write README.md."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--results", type=Path, default=ROOT / "results", help="folder of table.csv and report.md")
    parser.add_argument("--readme", type=Path, default=ROOT / "README.md", help="document to write")
    parser.add_argument("--cpu", help="name of the CPU; by default the one in report.md")
    arguments = parser.parse_args()
    file = arguments.results / "table.csv"
    if not file.is_file():
        raise SystemExit(f"{file}: no such file; run `make report` first")
    rows = chosen(pd.read_csv(file))
    marked.write(arguments.readme, "rows", as_markdown(rows, arguments.cpu or cpu_of(arguments.results / "report.md")))


if __name__ == "__main__":
    main()
