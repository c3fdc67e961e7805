"""Unsupervised domain adaptation: a labelled source, then an unlabelled target."""

from reidkit.uda.training import train_uda

__all__ = ["train_uda"]
