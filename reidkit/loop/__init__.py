"""The alternation itself: epoch, training step, run folder, checkpoints, resume."""

from reidkit.loop.alternation import alternate
from reidkit.loop.config import OptimizerConfig, PretrainConfig, RunConfig
from reidkit.loop.criteria import BatchContrast, ClusterContrast, IdentityLoss, create_classifier
from reidkit.loop.device import create_fabric
from reidkit.loop.epoch import Criterion, Steering, train_epoch
from reidkit.loop.extract import extract
from reidkit.loop.files import atomic_write
from reidkit.loop.images import (
    ImageSet,
    find_dataset,
    join_images,
    read_benchmark,
    read_dataset,
    read_split,
)
from reidkit.loop.model import TrainedModel, build_model, checkpoint_file, load_model
from reidkit.loop.optimisation import DECAYED
from reidkit.loop.progress import Progress
from reidkit.loop.pseudo_labels import (
    EpochLabels,
    Features,
    FeatureSource,
    PseudoLabeler,
    ground_truth,
    instances,
)
from reidkit.loop.recipes import default_recipe, list_recipes, parse_assignment, read_recipe, read_toml, resolve_config
from reidkit.loop.rounds import Benchmark
from reidkit.loop.run_folder import Record, RunFolder
from reidkit.loop.scoring import evaluate_model, evaluate_on
from reidkit.loop.stages import Learning, Stage, cluster_stage, identity_stage
from reidkit.loop.team import Team

__all__ = [
    "DECAYED",
    "BatchContrast",
    "Benchmark",
    "ClusterContrast",
    "Criterion",
    "EpochLabels",
    "FeatureSource",
    "Features",
    "IdentityLoss",
    "ImageSet",
    "Learning",
    "OptimizerConfig",
    "PretrainConfig",
    "Progress",
    "PseudoLabeler",
    "Record",
    "RunConfig",
    "RunFolder",
    "Stage",
    "Steering",
    "Team",
    "TrainedModel",
    "alternate",
    "atomic_write",
    "build_model",
    "checkpoint_file",
    "cluster_stage",
    "create_classifier",
    "create_fabric",
    "default_recipe",
    "evaluate_model",
    "evaluate_on",
    "extract",
    "find_dataset",
    "ground_truth",
    "identity_stage",
    "instances",
    "join_images",
    "list_recipes",
    "load_model",
    "parse_assignment",
    "read_benchmark",
    "read_dataset",
    "read_recipe",
    "read_split",
    "read_toml",
    "resolve_config",
    "train_epoch",
]
