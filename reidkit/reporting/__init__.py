"""Plots, galleries and HTML; reads run folders only."""

from reidkit.reporting.comparison import write_comparison
from reidkit.reporting.page import write_report

__all__ = ["write_comparison", "write_report"]
