"""Draw the chain of the embedded default from Snakemake's own rule graph, as Mermaid.

    python tools/diagram.py        writes docs/assets/chain.mmd and the same diagram into README.md

An arrow that a longer path implies is left out, and so is the rule `all`.
"""

from __future__ import annotations

import re
import subprocess
import sys
from graphlib import TopologicalSorter
from pathlib import Path

import marked

ROOT = Path(__file__).resolve().parent.parent
TARGET = "results/report.md"
Graph = dict[str, set[str]]  # rule -> the rules that it takes files from


def rule_graph() -> Graph:
    """Ask Snakemake for the rule graph of the embedded default."""
    command = [sys.executable, "-m", "snakemake", "--rulegraph", "mermaid-js", TARGET]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(done.stderr)
    names = dict(re.findall(r"^\s*(id\d+)\[(\w+)\]", done.stdout, flags=re.MULTILINE))
    graph: Graph = {name: set() for name in names.values() if name != "all"}
    for source, target in re.findall(r"^\s*(id\d+) --> (id\d+)", done.stdout, flags=re.MULTILINE):
        if names[target] in graph:
            graph[names[target]].add(names[source])
    return graph


def reduced(graph: Graph) -> Graph:
    """Leave out every arrow that a longer path implies. The graph has no cycles."""
    before: Graph = {}
    for name in TopologicalSorter(graph).static_order():
        before[name] = graph[name].union(*(before[source] for source in graph[name]))
    return {
        name: {source for source in sources if not any(source in before[other] for other in sources)}
        for name, sources in graph.items()
    }


def as_mermaid(graph: Graph) -> str:
    """Return the diagram, from left to right, its arrows in the order of the chain."""
    waiting = TopologicalSorter(graph)
    waiting.prepare()
    lines = ["flowchart LR"]
    while waiting.is_active():
        ready = sorted(waiting.get_ready())
        lines += [f"    {source} --> {name}" for name in ready for source in sorted(graph[name])]
        waiting.done(*ready)
    return "\n".join(lines)


def main() -> None:
    """Write both files."""
    diagram = as_mermaid(reduced(rule_graph()))
    (ROOT / "docs/assets/chain.mmd").write_text(diagram + "\n")
    marked.write(ROOT / "README.md", "chain", f"```mermaid\n{diagram}\n```")


if __name__ == "__main__":
    main()
