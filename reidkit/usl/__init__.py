"""Unsupervised training on an unlabelled target."""

from reidkit.usl.training import train_usl

__all__ = ["train_usl"]
