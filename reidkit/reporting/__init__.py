"""Plots, galleries and HTML; reads run folders only."""

from reidkit.reporting.page import write_report

__all__ = ["write_report"]
