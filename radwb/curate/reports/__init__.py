"""Labels of a report by rules, and the words that led to them."""

from radwb.curate.reports.label import label_reports, why

__all__ = ["label_reports", "why"]
