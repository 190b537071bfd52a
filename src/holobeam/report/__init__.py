"""Figures, tables and self-contained pages out of plain data."""
