"""Configuration of a run: the settings of all packages, joined."""

from typing import Annotated, Literal

from pydantic import BeforeValidator, Field

from reidkit.backbones import BackboneConfig
from reidkit.clustering import ClusteringConfig
from reidkit.config import Settings
from reidkit.datasets import AugmentationConfig, Colour, CropConfig, DataConfig, SamplerConfig
from reidkit.memory import MemoryConfig

__all__ = [
    "EvaluationConfig",
    "LoggingConfig",
    "OptimizerConfig",
    "Precision",
    "PretrainConfig",
    "RecipeInfo",
    "RunConfig",
    "ScheduleConfig",
    "SupervisedConfig",
    "SupervisedOptimizerConfig",
    "SupervisedScheduleConfig",
    "TrainingConfig",
    "UDAConfig",
    "WarmupConfig",
]

Precision = Literal["auto", "32", "bf16", "16"]


class RecipeInfo(Settings):
    """Origin of a configuration."""

    name: str = ""
    """Name of the recipe, mode/name."""

    description: str = ""
    """Purpose of the recipe, and the result to expect."""

    source: str = ""
    """Source of its values."""

    expected: str = ""
    """The result that the paper reports for it, in per cent."""


class WarmupConfig(Settings):
    """Epochs before the first clustering, for backbones that start from random weights."""

    epochs: int = Field(0, ge=0)
    """The first epochs of the run; 0 for pre-trained backbones. From random weights first clusters are arbitrary."""

    source: str = ""
    """Another, labelled data set whose identities to learn, such as `synthetic-crowd`. Empty: the target's own images
    without labels, every image its own class (SimCLR)."""

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

    decay_biases: bool = True
    """Apply the weight decay to biases and the weights of norms too."""


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
    """Length and device of a training."""

    epochs: int = Field(50, ge=1)
    """Rounds of feature extraction, clustering and training, the warm-up's included."""

    iterations: int = Field(200, ge=1)
    """Training steps in an epoch."""

    device: str = "auto"
    """`auto`, `cpu`, `cuda` or `cuda:N`."""

    precision: Annotated[Precision, BeforeValidator(str)] = "auto"
    """`32`, `bf16`, `16`; `auto` is bf16 where the device computes in it, else 16 on CUDA and 32 on the CPU."""

    compile: bool = False
    """Compile the backbone by torch.compile: minutes at the start, faster steps afterwards, on GPUs above all."""

    save_minutes: float = Field(30.0, gt=0)
    """Minutes between two saves inside an epoch that takes longer."""

    skip_limit: int = Field(10, ge=0)
    """Steps in an epoch that may be skipped because their loss is not finite; one more stops the run."""


class SupervisedOptimizerConfig(OptimizerConfig):
    """The optimiser of training on identities."""

    learning_rate: float = Field(4e-4, gt=0)
    """Learning rate before the schedule, for the section's batch size."""

    weight_decay: float = Field(1e-4, ge=0)
    """Weight decay; coupled (L2) in SGD, decoupled in AdamW."""

    bias_factor: float = Field(2.0, gt=0)
    """Learning rate of biases over that of the weights."""


class SupervisedScheduleConfig(ScheduleConfig):
    """The learning rate over the epochs of training on identities."""

    name: Literal["step", "cosine"] = "cosine"
    """`step`: multiplied by `factor` every `step_epochs`; `cosine`: down to `factor` of itself at the last epoch."""

    factor: float = Field(0.002, gt=0, le=1)
    """Multiplier of a step, or the final share of a cosine."""

    warmup_epochs: int = Field(20, ge=0)
    """Epochs of linear increase from 1 % of the learning rate."""


class SupervisedConfig(Settings):
    """Training on known identities: the whole of supervised training, and the first stage of UDA.

    Source: TransReID-SSL (arXiv 2111.12084), section 5.1, and its public settings.
    """

    epochs: int = Field(0, ge=0)
    """UDA: epochs of the run that are trained on the source, the first ones. Supervised training: not used."""

    iterations: int | None = Field(None, ge=1)
    """Training steps in an epoch; None: as many as its images fill batches."""

    batch_size: int = Field(64, ge=2)
    """Images per training step."""

    instances: int = Field(4, ge=1)
    """Images of an identity in a batch; must divide the batch size."""

    criterion: Literal["identities", "centroids"] = "identities"
    """`identities`: a classifier after the neck, retrieval with the feature before it; `centroids`: cluster contrast
    (section `memory`) with identities as clusters, retrieval with the feature after the neck."""

    label_smoothing: float = Field(0.0, ge=0, lt=1)
    """Share of the classifier's target that is spread over all identities."""

    triplet: float = Field(1.0, ge=0)
    """Weight of the batch-hard triplet loss on the features before the neck; 0 leaves it out."""

    margin: float | None = Field(None, ge=0)
    """Margin of the triplet loss in units of the features; None: the soft margin log(1 + exp(.))."""

    erasing_fill: Colour | Literal["noise"] = "noise"
    """As `augmentation.erasing_fill`, which does not count here."""

    optimizer: SupervisedOptimizerConfig = SupervisedOptimizerConfig()
    """The optimiser of these epochs."""

    schedule: SupervisedScheduleConfig = SupervisedScheduleConfig()
    """The learning rate over these epochs."""


class UDAConfig(Settings):
    """Adaptation from the source to the target."""

    strategy: Literal["finetune", "joint"] = "finetune"
    """`finetune`: clusters of the target alone, from the backbone that the source has trained; `joint`: classes of the
    source, clusters of the target and its single images in one softmax (SpCL, arXiv 2006.02713)."""

    source_checkpoint: str = ""
    """Weights trained on a source: the target follows at once."""


class PretrainConfig(Settings):
    """Self-distillation without labels, before any other training (DINO: Caron et al., arXiv 2104.14294)."""

    list: str = ""
    """File that names the images to train on, such as `reidkit select` writes; empty: all of the data set."""

    more: tuple[str, ...] = ()
    """Further data sets whose training images join those of the target, named as it is."""

    probe: str = ""
    """Labelled data set on whose query and gallery the frozen feature is scored; empty: the target's own, if any."""

    iterations: int | None = Field(None, ge=1)
    """Training steps in an epoch; None: as many as the images fill batches."""

    parts: int = Field(1, ge=1)
    """Accumulation steps: a batch goes through the network in this many parts, whose gradients add up; more take less
    memory. BatchNorm then sees the images of one part."""

    outputs: int = Field(65_536, ge=2)
    """Outputs of the head: prototypes that images are compared with."""

    hidden: int = Field(2048, ge=1)
    """Width of the head's first two layers."""

    bottleneck: int = Field(256, ge=1)
    """Width of the head's third layer, whose output is normalised."""

    neck: bool = False
    """Let the head see the features after the BatchNorm neck. In short runs from random weights it keeps the features
    of all images from falling together before anything is learned; the paper's recipes do without."""

    first_centre: Literal["zero", "batch"] = "zero"
    """Where the centre of the teacher's outputs starts: at 0 (the paper), or at the mean of the first batch, for runs
    whose first steps count."""

    student_temperature: float = Field(0.1, gt=0)
    """Temperature of the student's softmax."""

    teacher_temperature: float = Field(0.04, gt=0)
    """Temperature of the teacher's softmax; lower than the student's."""

    centre_momentum: float = Field(0.9, ge=0, lt=1)
    """Share of the old centre of the teacher's outputs that stays at a step."""

    teacher_momentum: float = Field(0.996, ge=0, le=1)
    """Share of the teacher that stays at the first step; rises to 1 along a cosine."""

    learning_rate: float = Field(5e-4, gt=0)
    """Learning rate for a batch of 256, after the warm-up; falls along a cosine."""

    end_learning_rate: float = Field(1e-6, ge=0)
    """Learning rate that the cosine ends at."""

    warmup_epochs: float = Field(10, ge=0)
    """Epochs of linear increase of the learning rate from 0."""

    weight_decay: float = Field(0.04, ge=0)
    """Weight decay at the first step, of weights but not of biases and norms."""

    end_weight_decay: float = Field(0.4, ge=0)
    """Weight decay that its cosine ends at."""

    clip: float = Field(3.0, gt=0)
    """Largest norm of the gradient of a single parameter."""

    frozen_epochs: int = Field(1, ge=0)
    """Epochs in which the head's last layer does not move."""


class EvaluationConfig(Settings):
    """Evaluations during a run."""

    every: int = Field(5, ge=1)
    """Epochs between evaluations; the start and the last epoch are always evaluated."""

    batch_size: int = Field(256, ge=1)
    """Images in a forward pass of feature extraction."""

    flip: bool = False
    """Rank by the mean of the features of every image and of its mirror image; for what looks alike from both sides."""


class LoggingConfig(Settings):
    """Services that log a run; its folder has metrics and pictures for TensorBoard in any case."""

    loggers: tuple[Literal["mlflow", "wandb"], ...] = ()
    """`wandb` (Weights & Biases) and `mlflow`: they get the configuration and the metrics of every epoch. Where,
    and as whom, is set by their own means: `wandb login`, `MLFLOW_TRACKING_URI`."""


class RunConfig(Settings):
    """Everything that decides a run."""

    mode: Literal["usl", "supervised", "uda", "pretrain"] = "usl"
    """Kind of training: `usl` (no labels), `uda` (a labelled source, then the target), `supervised` (the target's
    labels), `pretrain` (self-distillation)."""

    seed: int = Field(1, ge=0, lt=2**32)
    """Seed of everything random; the same seed gives the same run on the same machine."""

    recipe: RecipeInfo = RecipeInfo()
    data: DataConfig = DataConfig()
    backbone: BackboneConfig = BackboneConfig()
    augmentation: AugmentationConfig = AugmentationConfig()
    sampler: SamplerConfig = SamplerConfig()
    warmup: WarmupConfig = WarmupConfig()
    supervised: SupervisedConfig = SupervisedConfig()
    uda: UDAConfig = UDAConfig()
    pretrain: PretrainConfig = PretrainConfig()
    crops: CropConfig = CropConfig()
    clustering: ClusteringConfig = ClusteringConfig()
    memory: MemoryConfig = MemoryConfig()
    optimizer: OptimizerConfig = OptimizerConfig()
    schedule: ScheduleConfig = ScheduleConfig()
    training: TrainingConfig = TrainingConfig()
    evaluation: EvaluationConfig = EvaluationConfig()
    logging: LoggingConfig = LoggingConfig()
