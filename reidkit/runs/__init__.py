"""Everything about one run but its training: configuration, recipes, run folder, checkpoints, loggers, rankings."""

from reidkit.runs.config import OptimizerConfig, Precision, PretrainConfig, RunConfig, ScheduleConfig
from reidkit.runs.interruption import Interruption, terminable
from reidkit.runs.loggers import Loggers, require_loggers
from reidkit.runs.rankings import RANKINGS, read_rankings, save_rankings
from reidkit.runs.recipes import (
    default_recipe,
    describe_config,
    list_recipes,
    parse_assignment,
    read_recipe,
    read_toml,
    resolve_config,
)
from reidkit.runs.records import EpochRecord, Scores
from reidkit.runs.run_folder import RunFolder, environment, latest_run_path, new_run_path

__all__ = [
    "RANKINGS",
    "EpochRecord",
    "Interruption",
    "Loggers",
    "OptimizerConfig",
    "Precision",
    "PretrainConfig",
    "RunConfig",
    "RunFolder",
    "ScheduleConfig",
    "Scores",
    "default_recipe",
    "describe_config",
    "environment",
    "latest_run_path",
    "list_recipes",
    "new_run_path",
    "parse_assignment",
    "read_rankings",
    "read_recipe",
    "read_toml",
    "require_loggers",
    "resolve_config",
    "save_rankings",
    "terminable",
]
