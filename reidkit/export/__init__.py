"""Trained models for other programs."""

from reidkit.export.checkpoint_export import Exported, export_checkpoint
from reidkit.export.checks import BATCH_SIZES, Format

__all__ = ["BATCH_SIZES", "Exported", "Format", "export_checkpoint"]
