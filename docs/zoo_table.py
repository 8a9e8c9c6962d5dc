"""Writes the tables of docs/zoo.md from the networks themselves: python docs/zoo_table.py

What stands between the markers is the zoo's; the words around them are people's.
"""

from __future__ import annotations

import re
from pathlib import Path

from instep.graph.text import parse
from instep.report.table import table_of_graph
from instep.verbs.text import zoo
from instep.zoo import path_of

PAGE = Path(__file__).with_name("zoo.md")
MARKS = re.compile(r"(?P<head><!-- seed (?P<seed>\d+|none) -->\n).*?(?P<tail><!-- end -->)", re.DOTALL)
HEAD = "| network | | input | parameters | MACs | source |\n| --- | --- | --- | ---: | ---: | --- |\n"


def table(seed: int | None) -> str:
    """The networks that a seed document asks for, as Markdown. A count that its source does not give is in italics."""
    rows = []
    for entry in zoo():
        if entry.seed != seed:
            continue
        graph = parse(path_of(entry.name), initial=False)
        assert entry.parameters == table_of_graph(graph, entry.name).parameters
        count = f"{entry.parameters:,}" if "parameters" in graph.meta else f"*{entry.parameters:,}*"
        doc = str(graph.meta.get("doc", "")).replace("|", "\\|")
        macs = f"{entry.macs / 1e6:,.1f} M"
        rows.append(f"| `{entry.name}` | {doc} | {entry.input} | {count} | {macs} | {entry.source} |")
    return HEAD + "\n".join(rows) + "\n"


def refreshed(page: str) -> str:
    """The page with its tables as the zoo has them now."""

    def again(match: re.Match[str]) -> str:
        seed = None if match["seed"] == "none" else int(match["seed"])
        return match["head"] + table(seed) + match["tail"]

    return MARKS.sub(again, page)


if __name__ == "__main__":
    PAGE.write_text(refreshed(PAGE.read_text("utf-8")), "utf-8")
