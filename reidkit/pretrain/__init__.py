"""Self-supervised pre-training (DINO) and the choice of images for it (CFS)."""

from reidkit.pretrain.head import DinoHead, clip_gradients, freeze_last
from reidkit.pretrain.schedules import cosine_schedule, learning_rate

__all__ = ["DinoHead", "clip_gradients", "cosine_schedule", "freeze_last", "learning_rate"]
