"""Trained models for other programs."""

from reidkit.export.formats import BATCH_SIZES, export_checkpoint

__all__ = ["BATCH_SIZES", "export_checkpoint"]
