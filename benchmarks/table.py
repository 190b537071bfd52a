"""A Markdown table of measured values beside what was asked of them."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass
class Table:
    """Rows of text; ``check`` adds one with a verdict."""

    title: str
    columns: tuple[str, ...]
    note: str = ""
    rows: list[tuple[str, ...]] = field(default_factory=list)
    met: bool = True

    def add(self, *cells: object) -> None:
        """Add a row."""
        self.rows.append(tuple(str(cell) for cell in cells))

    def check(self, met: bool, *cells: object) -> None:
        """Add a row that ends in a verdict."""
        self.met &= met
        self.add(*cells, "met" if met else "**missed**")

    def markdown(self) -> str:
        """Render as Markdown."""
        lines = [f"## {self.title}\n"]
        if self.note:
            lines.append(f"{self.note}\n")
        lines.append("| " + " | ".join(self.columns) + " |")
        lines.append("|" + "---|" * len(self.columns))
        lines += ["| " + " | ".join(row) + " |" for row in self.rows]
        return "\n".join(lines) + "\n"
