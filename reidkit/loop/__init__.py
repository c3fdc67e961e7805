"""The training loop: cluster, learn, repeat."""

from reidkit.loop.criteria import BatchContrast, ClusterContrast, IdentityLoss, create_classifier
from reidkit.loop.device import create_fabric, finish_together, place, resolve_device, resolve_precision
from reidkit.loop.epoch import Criterion, Steering, train_epoch
from reidkit.loop.evaluation import Evaluation, evaluate_model, evaluate_on
from reidkit.loop.extract import extract
from reidkit.loop.images import ImageSet, find_dataset, join_images, read_benchmark, read_dataset, read_split
from reidkit.loop.labels import EpochLabels, Features, FeatureSource, PseudoLabeler, ground_truth, instances
from reidkit.loop.model import TrainedModel, build_model, checkpoint_file, inherited_settings, load_model
from reidkit.loop.optimisation import DECAYED
from reidkit.loop.progress import Progress
from reidkit.loop.rounds import Benchmark
from reidkit.loop.stages import Learning, Stage, cluster_stage, identity_stage
from reidkit.loop.training import alternate

__all__ = [
    "DECAYED",
    "BatchContrast",
    "Benchmark",
    "ClusterContrast",
    "Criterion",
    "EpochLabels",
    "Evaluation",
    "FeatureSource",
    "Features",
    "IdentityLoss",
    "ImageSet",
    "Learning",
    "Progress",
    "PseudoLabeler",
    "Stage",
    "Steering",
    "TrainedModel",
    "alternate",
    "build_model",
    "checkpoint_file",
    "cluster_stage",
    "create_classifier",
    "create_fabric",
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
    "train_epoch",
]
