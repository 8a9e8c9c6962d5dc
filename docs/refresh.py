"""Runs every command shown in the README and in docs/, and puts its real output in place.

    python docs/refresh.py README.md docs/commands.md

A block that begins with ```console holds commands (lines that begin with "$ ") and their output. They run in order, in
the repository's root, with the width of a page. Run it on a quiet machine: the times it prints are real too.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
BLOCK = re.compile(r"(?P<head>^```console\n)(?P<body>.*?)(?P<tail>^```$)", re.MULTILINE | re.DOTALL)


def commands(body: str) -> list[str]:
    """The commands of a block; one that ends in a backslash goes on in the next line."""
    found: list[str] = []
    lines = iter(body.splitlines())
    for line in lines:
        if not line.startswith("$ "):
            continue
        while line.endswith("\\"):
            line += "\n" + next(lines)
        found.append(line[2:])
    return found


def output(command: str) -> str:
    """What ``command`` prints, both streams, without trailing blanks."""
    bins = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
    environment = {**os.environ, "PATH": bins, "COLUMNS": "100", "NO_COLOR": "1"}
    run = subprocess.run(
        ["bash", "-c", command], cwd=ROOT, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )
    return "\n".join(line.rstrip() for line in run.stdout.rstrip().splitlines())


def refreshed(text: str) -> str:
    def again(match: re.Match[str]) -> str:
        parts = []
        for command in commands(match["body"]):
            print(f"$ {command}", file=sys.stderr)
            said = output(command)
            parts.append(f"$ {command}\n" + (said + "\n" if said else ""))
        return match["head"] + "\n".join(parts) + match["tail"]

    return BLOCK.sub(again, text)


def main() -> None:
    if shutil.which("instep") is None:
        raise SystemExit("there is no command 'instep' here; activate the environment that has it")
    for name in sys.argv[1:]:
        path = Path(name)
        path.write_text(refreshed(path.read_text(encoding="utf-8")), encoding="utf-8")


if __name__ == "__main__":
    main()
