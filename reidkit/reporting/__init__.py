"""Plots, galleries and HTML; reads run folders only."""

from reidkit.reporting.comparison import write_comparison
from reidkit.reporting.page import write_report
from reidkit.reporting.suggestion import plot_suggestion

__all__ = ["plot_suggestion", "write_comparison", "write_report"]
