"""Turns the records under results/ into REPORT.md: one table a benchmark, with machine, date and commit.

Run it after a benchmark; nothing in the report is typed by hand.
"""

from __future__ import annotations

import ast
import json
from typing import Any

from harness import HERE, RESULTS


def markdown(rows: list[dict[str, Any]]) -> str:
    """Rows as a Markdown table; columns that are the same in every row are left out."""
    names = list(dict.fromkeys(name for row in rows for name in row))
    kept = [n for n in names if len({str(row.get(n)) for row in rows}) > 1 or len(rows) == 1]
    lines = ["| " + " | ".join(kept) + " |", "|" + " --- |" * len(kept)]
    lines += ["| " + " | ".join(_cell(row.get(name)) for name in kept) + " |" for row in rows]
    return "\n".join(lines)


def _cell(value: Any) -> str:
    if value is None:
        return "–"
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def constants(rows: list[dict[str, Any]]) -> str:
    """What every row shares."""
    if len(rows) < 2:
        return ""
    shared = {n: rows[0][n] for n in rows[0] if len({str(row.get(n)) for row in rows}) == 1}
    return ", ".join(f"{name} {_cell(value)}" for name, value in shared.items())


def section(record: dict[str, Any]) -> str:
    """One benchmark's part of the report, with the question its file asks."""
    name = record["benchmark"]
    question = (ast.get_docstring(ast.parse((HERE / f"{name}.py").read_text())) or "").strip()
    machine = record["machine"]
    versions = ", ".join(f"{package} {version}" for package, version in machine["versions"].items())
    return (
        f"## {name}\n\n{question}\n\n{markdown(record['rows'])}\n\n"
        + (f"In every row: {constants(record['rows'])}. " if constants(record["rows"]) else "")
        + f"Measured {record['date']} at {record['commit']} on {machine['cpu']}, {machine['cores']} cores, "
        f"{machine['isa']}, Python {machine['python']}; {versions}. Again: `python benchmarks/{name}.py`\n"
    )


def main() -> None:
    """Write REPORT.md."""
    records = [json.loads(path.read_text()) for path in sorted(RESULTS.glob("*.json"))]
    text = "# Measurements\n\nMade by `python benchmarks/report.py` from the records under results/.\n\n"
    path = HERE / "REPORT.md"
    path.write_text(text + "\n".join(section(record) for record in records))
    print(f"wrote {path} from {len(records)} records")


if __name__ == "__main__":
    main()
