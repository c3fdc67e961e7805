"""Self-distillation as a network, a criterion and rates for the loop (DINO: Caron et al., arXiv 2104.14294)."""

import copy
import logging
import math
from collections.abc import Mapping
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.optim import Optimizer

from reidkit.backbones import EmbeddingModel, embed_views
from reidkit.distributed import ALONE, ProcessGroup
from reidkit.loop import DECAYED, StepHook, cosine_schedule
from reidkit.memory import DinoLoss
from reidkit.pretrain.head import DinoHead, clip_gradients, freeze_last
from reidkit.runs import PretrainConfig

__all__ = ["Distillation", "Projections", "Rates", "StudentAndTeacher"]

logger = logging.getLogger(__name__)

_WATCHED = 10  # steps of an epoch between looks at the outputs, the first step included
_REFERENCE_BATCH = 256  # the learning rate grows with the batch (DINO, section 3.2)
_UNIFORM, _PEAKED, _FLAT = 0.995, 0.01, 1.5


class Projections(NamedTuple):
    """Outputs of the heads for a batch of B images."""

    student: Tensor
    """(V * B, O) of all views, view by view, the two global ones first."""
    teacher: Tensor
    """(2 * B, O) of the global views; no gradient."""
    features: Tensor
    """(2 * B, D) the teacher's features of the global views; no gradient."""


class StudentAndTeacher(nn.Module):
    """Two models with heads: the student learns, the teacher is its moving average.

    Args:
        student: What learns.
        teacher: The moving average, of the same parts as the student. It is no part of this module's state: it is
            saved once, as the model of the run.
        config: Size of the heads, temperatures, and whether they see the feature after the neck.
    """

    started: Tensor
    loss: DinoLoss

    def __init__(self, student: EmbeddingModel, teacher: EmbeddingModel, config: PretrainConfig) -> None:
        super().__init__()
        self.student = student
        self.student_head = DinoHead(
            student.feature_dim, config.outputs, hidden=config.hidden, bottleneck=config.bottleneck
        )
        self.teacher_head = copy.deepcopy(self.student_head)
        self.loss = DinoLoss(
            config.outputs,
            student_temperature=config.student_temperature,
            teacher_temperature=config.teacher_temperature,
            centre_momentum=config.centre_momentum,
        )
        self.register_buffer("started", torch.tensor(config.first_centre == "zero"))
        self._neck = config.neck
        student.bottleneck.requires_grad_(False)
        teacher.load_state_dict(student.state_dict())
        for follower in (teacher, self.teacher_head):
            follower.requires_grad_(False)
        self._teacher = (teacher,)

    @property
    def teacher(self) -> EmbeddingModel:
        """The moving average, which is saved."""
        return self._teacher[0]

    def forward(self, views: tuple[Tensor, Tensor], cameras: Tensor | None = None) -> Projections:
        """Both heads' outputs.

        Args:
            views: Global (2, B, 3, H, W) and local (V - 2, B, 3, h, w) views, normalised.
            cameras: Ignored: views do not depend on the camera.
        """
        large, small = (view.flatten(0, 1) for view in views)
        with torch.no_grad():
            features = self._features(self.teacher, [large])
            taught = self.teacher_head(features)
        learned = self.student_head(self._features(self.student, [large, small] if len(small) else [large]))
        return Projections(learned, taught, features)

    def _features(self, model: EmbeddingModel, views: list[Tensor]) -> Tensor:
        features = torch.cat([embed_views(model.backbone, images).float() for images in views])
        seen: Tensor = model.bottleneck(features) if self._neck else features
        return seen

    @torch.no_grad()
    def follow(self, momentum: float) -> None:
        """Move the teacher: parameters <- momentum teacher + (1 - momentum) student (section 3.1)."""
        pairs = ((self.teacher, self.student), (self.teacher_head, self.student_head))
        for follower, leader in pairs:
            for target, source in zip(follower.parameters(), leader.parameters(), strict=True):
                target.lerp_(source, 1 - momentum)


class Rates:
    """Learning rate, weight decay and momentum of every step: functions of its number alone.

    Args:
        config: The settings.
        epochs: Epochs of the whole run.
        iterations: Steps of an epoch.
        batch_size: Images of a step.
    """

    def __init__(self, config: PretrainConfig, *, epochs: int, iterations: int, batch_size: int) -> None:
        self._config, self._batch_size = config, batch_size
        self._steps = epochs * iterations
        self._warmup = min(self._steps, round(config.warmup_epochs * iterations))

    def learning_rate(self, step: int) -> float:
        """The learning rate of a step, counted from 0 over the whole run."""
        config = self._config
        start = config.learning_rate * self._batch_size / _REFERENCE_BATCH
        return cosine_schedule(step, self._steps, start=start, end=config.end_learning_rate, warmup=self._warmup)

    def weight_decay(self, step: int) -> float:
        """The weight decay of a step."""
        return cosine_schedule(step, self._steps, start=self._config.weight_decay, end=self._config.end_weight_decay)

    def momentum(self, step: int) -> float:
        """The teacher's momentum of a step."""
        return cosine_schedule(step, self._steps, start=self._config.teacher_momentum, end=1.0)


class Distillation(StepHook):
    """The loss of self-distillation and the hook of its steps: the loop's `Criterion` and `StepHook`.

    Args:
        pair: Student and teacher.
        rates: Rates of every step.
        config: Largest gradient, frozen epochs.
        iterations: Steps of an epoch.
        group: Processes of the run.
    """

    def __init__(
        self,
        pair: StudentAndTeacher,
        rates: Rates,
        config: PretrainConfig,
        iterations: int,
        group: ProcessGroup = ALONE,
    ) -> None:
        self.pair = pair
        self._rates, self._config, self._iterations, self._group = rates, config, iterations, group
        self._epoch = self._step = 0
        self._means: list[Tensor] = []
        self._watched: list[tuple[float, float, float]] = []

    def of_epoch(self, epoch: int) -> "Distillation":
        """Begin an epoch, counted from 1."""
        self._epoch, self._watched = epoch, []
        return self

    def before_step(self, optimizer: Optimizer, step: int) -> None:
        """Set the rates of a step, counted from 1 in the epoch."""
        self._step, self._means = (self._epoch - 1) * self._iterations + step - 1, []
        for group in optimizer.param_groups:
            group["lr"] = self._rates.learning_rate(self._step)
            if group.get(DECAYED, True):
                group["weight_decay"] = self._rates.weight_decay(self._step)

    def before_update(self) -> None:
        """Shorten long gradients, and leave the last layer unchanged while it is frozen."""
        clip_gradients(self.pair.parameters(), self._config.clip)
        freeze_last(self.pair.student_head, self._epoch - 1, epochs=self._config.frozen_epochs)

    def __call__(self, outputs: Projections, labels: Tensor, /) -> Tensor:
        """The mean loss over images and pairs of views; no labels are looked at."""
        loss = self.pair.loss
        rows = outputs.teacher.detach().float()
        sums = self._group.all_reduce(torch.cat([rows.sum(0), rows.new_tensor([len(rows)])]))
        self._means.append(sums[:-1] / sums[-1])
        if not self.pair.started:
            loss.centre.copy_(self._means[0])
            self.pair.started.fill_(True)
        value: Tensor = loss(outputs.student, outputs.teacher)
        return value

    def update(self, outputs: Projections, labels: Tensor, /) -> None:
        """Move the centre, by all parts of the batch, and the teacher."""
        self.pair.loss.update(torch.stack(self._means).mean(0, keepdim=True))
        self.pair.follow(self._rates.momentum(self._step))
        if (self._step - (self._epoch - 1) * self._iterations) % _WATCHED == 0:
            self._watched.append(self._look(outputs))

    def state_dict(self) -> dict[str, list[tuple[float, float, float]]]:
        """Return what was measured in the epoch; all else is part of student and teacher."""
        return {"watched": self._watched}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Take it over, after `of_epoch`."""
        self._watched = list(state["watched"])

    def metrics(self) -> dict[str, float]:
        """Signs of collapse, means over the epoch; a warning where they say that there is one."""
        if not self._watched:
            return {}
        entropy, rank, spread = (sum(values) / len(values) for values in zip(*self._watched, strict=True))
        if entropy > _UNIFORM or entropy < _PEAKED or rank < _FLAT:
            what = "all outputs are alike" if entropy > _UNIFORM else "all images look the same to the teacher"
            logger.warning(
                "epoch %d: the training has collapsed, or is about to: %s (teacher_entropy %.3f, feature_rank %.1f). "
                "Lower pretrain.learning_rate or pretrain.teacher_temperature, raise the batch size, or set "
                "pretrain.neck=true and pretrain.first_centre=batch",
                *(self._epoch, what, entropy, rank),
            )
        return {"teacher_entropy": entropy, "feature_rank": rank, "feature_spread": spread}

    @torch.no_grad()
    def _look(self, outputs: Projections) -> tuple[float, float, float]:
        """How evenly the teacher spreads an image over the outputs, and how different it finds the images.

        Returns:
            Mean entropy of its distributions over the largest possible one; effective rank of the features (the
            exponential of the entropy of their squared singular values); root mean square distance from their mean.
        """
        probabilities = self.pair.loss.probabilities(outputs.teacher)
        entropy = -(probabilities * probabilities.clamp_min(1e-12).log()).sum(1).mean()
        units = functional.normalize(outputs.features.float(), dim=1)
        centred = units - units.mean(0)
        strengths = torch.linalg.svdvals(centred).square()
        shares = strengths / strengths.sum().clamp_min(1e-12)
        rank = torch.exp(-(shares * shares.clamp_min(1e-12).log()).sum())
        spread = centred.square().sum(1).mean().sqrt()
        return entropy.item() / math.log(probabilities.shape[1]), rank.item(), spread.item()
