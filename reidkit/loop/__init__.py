"""The training loop: cluster, learn, repeat."""

from reidkit.loop.criteria import BatchContrast, ClusterContrast, Criterion, IdentityLoss, create_classifier
from reidkit.loop.device import create_fabric, finish_together, place, resolve_device, resolve_precision
from reidkit.loop.epoch import Epoch, EpochProgress, train_epoch
from reidkit.loop.evaluation import Benchmark, Evaluation, evaluate_model, evaluate_on
from reidkit.loop.extract import extract
from reidkit.loop.images import ImageSet, find_dataset, join_images, read_benchmark, read_dataset, read_split
from reidkit.loop.labels import EpochLabels, Features, PseudoLabeler, ground_truth, instances
from reidkit.loop.model import TrainedModel, build_model, checkpoint_file, inherited_settings, load_model
from reidkit.loop.optimisation import DECAYED, StepHook
from reidkit.loop.progress import SILENT, Progress
from reidkit.loop.schedules import cosine_schedule, epoch_rate
from reidkit.loop.stages import (
    Augment,
    ClusterStage,
    IdentityStage,
    InstanceStage,
    Learning,
    Stage,
    cluster_fields,
    identity_stage,
)
from reidkit.loop.trainer import Trainer
from reidkit.loop.training import train

__all__ = [
    "DECAYED",
    "SILENT",
    "Augment",
    "BatchContrast",
    "Benchmark",
    "ClusterContrast",
    "ClusterStage",
    "Criterion",
    "Epoch",
    "EpochLabels",
    "EpochProgress",
    "Evaluation",
    "Features",
    "IdentityLoss",
    "IdentityStage",
    "ImageSet",
    "InstanceStage",
    "Learning",
    "Progress",
    "PseudoLabeler",
    "Stage",
    "StepHook",
    "TrainedModel",
    "Trainer",
    "build_model",
    "checkpoint_file",
    "cluster_fields",
    "cosine_schedule",
    "create_classifier",
    "create_fabric",
    "epoch_rate",
    "evaluate_model",
    "evaluate_on",
    "extract",
    "find_dataset",
    "finish_together",
    "ground_truth",
    "identity_stage",
    "inherited_settings",
    "instances",
    "join_images",
    "load_model",
    "place",
    "read_benchmark",
    "read_dataset",
    "read_split",
    "resolve_device",
    "resolve_precision",
    "train",
    "train_epoch",
]
