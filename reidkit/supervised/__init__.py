"""Supervised training: the loop with ground-truth labels."""

from reidkit.supervised.training import train_supervised

__all__ = ["train_supervised"]
