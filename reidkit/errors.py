"""Every error that reidkit raises on purpose.

    ReidkitError              bad input or an unusable environment; the command line prints it and exits with 2
    ├── ConfigError           a setting, a recipe or a configuration file
    ├── DataError             a data set, an image or a data root
    ├── CheckpointError       a weight file or checkpoint
    ├── ClusteringError       features or parameters that cannot be clustered
    ├── EvaluationError       a query and gallery that cannot be ranked
    ├── RunError              a run folder: in use, finished, not resumable, not writable
    └── TrainingError         a training run that cannot continue

    Interrupted               a KeyboardInterrupt: a run was asked to stop; exit code 130 (Ctrl-C) or 143 (SIGTERM)

A message names the value, the rule and the remedy. All but the last are ValueErrors, as scikit-learn raises them.
"""

import signal

__all__ = [
    "CheckpointError",
    "ClusteringError",
    "ConfigError",
    "DataError",
    "EvaluationError",
    "Interrupted",
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
    """A training run cannot continue."""


class Interrupted(KeyboardInterrupt):
    """A run was asked to stop and has stopped. `except Exception` does not catch it, as it does not catch Ctrl-C.

    Args:
        number: The signal, as in `signal.Signals`.
        saved: Description of the saved state; empty if nothing was saved.
    """

    def __init__(self, number: int, saved: str = "") -> None:
        name = "Ctrl-C" if number == signal.SIGINT else signal.Signals(number).name
        super().__init__(f"stopped by {name}" + (f": {saved}" if saved else ""))
        self.saved = saved
        self.exit_code = 128 + number
