"""One run's configuration: the settings of all rooms, joined."""

from typing import Annotated, Literal

from pydantic import BeforeValidator, Field

from reidkit.backbones import BackboneConfig
from reidkit.clustering import ClusteringConfig
from reidkit.config import Settings
from reidkit.datasets import AugmentationConfig, DataConfig, SamplerConfig
from reidkit.memory import MemoryConfig

__all__ = [
    "EvaluationConfig",
    "OptimizerConfig",
    "Precision",
    "RecipeInfo",
    "RunConfig",
    "ScheduleConfig",
    "TrainingConfig",
    "WarmupConfig",
]

Precision = Literal["auto", "32", "bf16", "16"]


class RecipeInfo(Settings):
    """Where a configuration comes from."""

    name: str = ""
    """Name of the recipe, mode/name."""

    description: str = ""
    """What the recipe is for, and the result to expect."""

    source: str = ""
    """Where its values come from."""


class WarmupConfig(Settings):
    """Epochs before the first clustering, for backbones that start from random weights."""

    epochs: int = Field(0, ge=0)
    """How many of the run's epochs; 0 for pre-trained backbones. From random weights first clusters are arbitrary."""

    source: str = ""
    """Another, labelled data set whose identities to learn, such as `synthetic-crowd`. Empty: the target's own images
    without labels, every image a class of its own (SimCLR)."""

    label_smoothing: float = Field(0.1, ge=0, lt=1)
    """Share of the target of the classification of a source's identities that is spread over all of them."""

    instances: int = Field(1, ge=1)
    """Images of an identity in a batch: the fewer, the more people a batch shows, and the steadier its statistics."""

    temperature: float = Field(0.1, gt=0)
    """Temperature of the softmax over the other images of the batch; logits are cosine / temperature."""


class OptimizerConfig(Settings):
    """The optimiser."""

    name: Literal["sgd", "adamw"] = "sgd"
    """`sgd` with momentum, or `adamw`."""

    learning_rate: float = Field(3.5e-4, gt=0)
    """Learning rate before the schedule, for the recipe's batch size."""

    weight_decay: float = Field(5e-4, ge=0)
    """Weight decay; coupled (L2) in SGD, decoupled in AdamW."""

    momentum: float = Field(0.9, ge=0, lt=1)
    """Momentum of SGD; AdamW uses its usual (0.9, 0.999)."""

    bias_factor: float = Field(1.0, gt=0)
    """Learning rate of biases over that of all other weights."""


class ScheduleConfig(Settings):
    """The learning rate over epochs."""

    name: Literal["step", "cosine"] = "step"
    """`step`: multiplied by `factor` every `step_epochs`; `cosine`: down to `factor` of itself at the last epoch, or,
    after a warm-up, at the end of the last epoch: the warm-up takes the place of the beginning of the cosine."""

    step_epochs: int = Field(20, ge=1)
    """Epochs between steps."""

    factor: float = Field(0.1, gt=0, le=1)
    """Multiplier of a step, or the final share of a cosine."""

    warmup_epochs: int = Field(0, ge=0)
    """Epochs of linear increase from 1 % of the learning rate."""


class TrainingConfig(Settings):
    """How long and on what."""

    epochs: int = Field(50, ge=1)
    """Rounds of feature extraction, clustering and training, the warm-up's included."""

    iterations: int = Field(200, ge=1)
    """Training steps in an epoch."""

    device: str = "auto"
    """`auto`, `cpu`, `cuda` or `cuda:N`."""

    precision: Annotated[Precision, BeforeValidator(str)] = "auto"
    """`32`, `bf16`, `16`; `auto` is bf16 where the device computes in it, else 16 on CUDA and 32 on the CPU."""

    skip_limit: int = Field(10, ge=0)
    """Steps in an epoch that may be skipped because their loss is not finite; one more stops the run."""


class EvaluationConfig(Settings):
    """When and how to evaluate."""

    every: int = Field(5, ge=1)
    """Epochs between evaluations; the start and the last epoch are always evaluated."""

    batch_size: int = Field(256, ge=1)
    """Images in a forward pass of feature extraction."""

    flip: bool = False
    """Rank by the mean of the features of every image and of its mirror image; for what looks alike from both sides."""


class RunConfig(Settings):
    """Everything that decides a run."""

    mode: Literal["usl"] = "usl"
    """The wiring: `usl`."""

    seed: int = Field(1, ge=0, lt=2**32)
    """Seed of everything random; the same seed gives the same run on the same machine."""

    recipe: RecipeInfo = RecipeInfo()
    data: DataConfig = DataConfig()
    backbone: BackboneConfig = BackboneConfig()
    augmentation: AugmentationConfig = AugmentationConfig()
    sampler: SamplerConfig = SamplerConfig()
    warmup: WarmupConfig = WarmupConfig()
    clustering: ClusteringConfig = ClusteringConfig()
    memory: MemoryConfig = MemoryConfig()
    optimizer: OptimizerConfig = OptimizerConfig()
    schedule: ScheduleConfig = ScheduleConfig()
    training: TrainingConfig = TrainingConfig()
    evaluation: EvaluationConfig = EvaluationConfig()
