"""Every error that reidkit raises on purpose, on one screen.

ReidkitError                  bad input or an unusable environment; the command line prints it and exits with 2
├── ConfigError               a setting, a recipe or a configuration file
├── DataError                 a data set, an image or a data root
├── CheckpointError           a weight file or checkpoint
├── ClusteringError           features or parameters that cannot be clustered
├── EvaluationError           a query and gallery that cannot be ranked
├── RunError                  a run folder: in use, finished, not resumable, not writable
└── TrainingError             a training run that cannot go on

A message names the value, the rule and the remedy. All are ValueErrors too, so that callers who know
scikit-learn's habits catch what they expect.
"""

__all__ = [
    "CheckpointError",
    "ClusteringError",
    "ConfigError",
    "DataError",
    "EvaluationError",
    "ReidkitError",
    "RunError",
    "TrainingError",
]


class ReidkitError(ValueError):
    """Base of all errors that reidkit raises on purpose."""


class ConfigError(ReidkitError):
    """A setting, a recipe or a configuration file is wrong."""


class DataError(ReidkitError):
    """A data set, an image or a data root is missing or unreadable."""


class CheckpointError(ReidkitError):
    """A weight file or checkpoint is unreadable, unsafe or of another model."""


class ClusteringError(ReidkitError):
    """Features or parameters cannot be clustered."""


class EvaluationError(ReidkitError):
    """A query and gallery cannot be ranked."""


class RunError(ReidkitError):
    """A run folder is in use, finished, not resumable or not writable."""


class TrainingError(ReidkitError):
    """A training run cannot go on."""
