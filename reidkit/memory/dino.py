"""The loss of self-distillation without labels (DINO: Caron et al., arXiv 2104.14294)."""

import torch
from torch import Tensor, nn

from reidkit.errors import ConfigError, TrainingError

__all__ = ["DinoLoss"]

_GLOBAL_VIEWS = 2


class DinoLoss(nn.Module):
    """Cross-entropy between the teacher's and the student's outputs for different views of an image.

    For every pair of a global view t and another view v of the same image, the loss is the cross-entropy of
    softmax(student_v / student_temperature) under softmax((teacher_t - centre) / teacher_temperature); it is averaged
    over pairs and images (DINO, section 3.1, equation 3). No gradient reaches the teacher.

    Args:
        outputs: O, the outputs of the head.
        student_temperature: > 0.
        teacher_temperature: > 0; lower than the student's, so that the target is the sharper one.
        centre_momentum: Share of the old centre that stays at an update, in [0, 1).

    Attributes:
        centre: (O,) float32, the moving average of the teacher's outputs (equation 4); a buffer, 0 at first.

    As in `ClusterMemory`, loss and update are separate calls::

        loss = criterion(student, teacher)
        ...
        criterion.update(teacher)

    Raises:
        ConfigError: An argument is outside its range.
    """

    centre: Tensor

    def __init__(
        self,
        outputs: int,
        *,
        student_temperature: float = 0.1,
        teacher_temperature: float = 0.04,
        centre_momentum: float = 0.9,
    ) -> None:
        super().__init__()
        if outputs < 1:
            raise ConfigError(f"outputs={outputs}; it must be >= 1 (the paper uses 65,536)")
        if student_temperature <= 0:
            raise ConfigError(f"student_temperature={student_temperature}; it must be > 0 (the paper uses 0.1)")
        if teacher_temperature <= 0:
            raise ConfigError(f"teacher_temperature={teacher_temperature}; it must be > 0 (the paper uses 0.04)")
        if not 0 <= centre_momentum < 1:
            raise ConfigError(f"centre_momentum={centre_momentum}; it must be in [0, 1) (the paper uses 0.9)")
        self.student_temperature = student_temperature
        self.teacher_temperature = teacher_temperature
        self.centre_momentum = centre_momentum
        self.register_buffer("centre", torch.zeros(outputs))

    def forward(self, student: Tensor, teacher: Tensor, *, teacher_temperature: float | None = None) -> Tensor:
        """Compute the loss of a batch, in float32 under any autocast.

        Args:
            student: (V * B, O) raw outputs, view by view: V >= 2 views, the two global ones first.
            teacher: (2 * B, O) raw outputs of the global views, in the student's order.
            teacher_temperature: Replaces that of the constructor, for a schedule.

        Returns:
            The mean loss, a scalar.

        Raises:
            TrainingError: The shapes do not fit each other or the centre.
        """
        batch = self._batch_size(student, teacher)
        with torch.autocast(student.device.type, enabled=False):
            with torch.no_grad():
                targets = self.probabilities(teacher, teacher_temperature).view(_GLOBAL_VIEWS, batch, -1)
            logits = (student.float() / self.student_temperature).view(-1, batch, len(self.centre))
            # A target sums to 1, so that its cross-entropy is logsumexp(logits) - target . logits. The local views meet
            # both targets, a global one only that of the other: no product of all views with all targets is formed.
            log_sums = logits.logsumexp(2)
            log_sums = log_sums[:_GLOBAL_VIEWS].sum(0) + _GLOBAL_VIEWS * log_sums[_GLOBAL_VIEWS:].sum(0)
            products = (targets.flip(0) * logits[:_GLOBAL_VIEWS]).sum((0, 2))
            products = products + (targets.sum(0) * logits[_GLOBAL_VIEWS:].sum(0)).sum(1)
            pairs = _GLOBAL_VIEWS * (len(logits) - 1)
            loss: Tensor = (log_sums - products).mean() / pairs
            return loss

    def probabilities(self, teacher: Tensor, temperature: float | None = None) -> Tensor:
        """Centre and sharpen the teacher's outputs: the targets of the loss.

        Args:
            teacher: (N, O) raw outputs.
            temperature: Replaces that of the constructor.

        Returns:
            (N, O) float32, rows sum to 1.
        """
        return ((teacher.float() - self.centre) / (temperature or self.teacher_temperature)).softmax(1)

    @torch.no_grad()
    def update(self, teacher: Tensor) -> None:
        """Move the centre: c <- momentum c + (1 - momentum) mean of the rows.

        Args:
            teacher: (N, O) raw outputs of the whole step, N >= 1. Only their mean counts: accumulated batches and
                several processes give all rows at once, or the mean over all as a single row.
        """
        self.centre.lerp_(teacher.float().mean(0), 1 - self.centre_momentum)

    def _batch_size(self, student: Tensor, teacher: Tensor) -> int:
        """Return B after checking that the shapes fit."""
        batch, remainder = divmod(len(teacher), _GLOBAL_VIEWS)
        expected = len(self.centre)
        if student.ndim != 2 or teacher.ndim != 2 or {student.shape[1], teacher.shape[1]} != {expected}:
            raise TrainingError(
                f"student and teacher outputs have shapes {tuple(student.shape)} and {tuple(teacher.shape)}; this loss "
                f"needs rows of {expected:,} outputs: create it with the outputs of the head"
            )
        if batch == 0 or remainder or len(student) < len(teacher) or len(student) % batch:
            raise TrainingError(
                f"{len(student):,} student rows do not fit {len(teacher):,} teacher rows; the teacher sees the 2 "
                "global views of every image, the student these and any number of local ones"
            )
        return batch
