"""The base of every settings class: frozen, strict about names, each field documented.

A room's settings lie in that room (`reidkit.clustering.config`, ...); `reidkit.runs.config` joins them into one run's
configuration. Functions receive values, never a whole configuration.
"""

from pydantic import BaseModel, ConfigDict

__all__ = ["Settings"]


class Settings(BaseModel):
    """A small group of settings: immutable, unknown names refused, a docstring under each field is its help text."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True, allow_inf_nan=False)
