"""Base class of all settings: frozen, strict about names, each field documented.

The settings of a package are in that package (`reidkit.clustering.config`, ...); `reidkit.runs.config` joins them into
the configuration of a run. Functions receive values, never a whole configuration.
"""

from pydantic import BaseModel, ConfigDict

__all__ = ["Settings"]


class Settings(BaseModel):
    """Group of settings: immutable, unknown names are errors, the docstring under a field is its help text."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True, allow_inf_nan=False)
