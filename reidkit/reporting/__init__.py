"""Pages about runs: report, comparison, suggested eps. Reads run folders and loads torch only where a model runs."""

from reidkit.reporting.comparison import write_comparison
from reidkit.reporting.report_page import write_report
from reidkit.reporting.suggestion_page import plot_suggestion

__all__ = ["plot_suggestion", "write_comparison", "write_report"]
