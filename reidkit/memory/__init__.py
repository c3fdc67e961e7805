"""Memory banks and the losses over them."""

from reidkit.memory.batch_contrast import batch_contrast
from reidkit.memory.cluster_memory import ClusterMemory, cluster_centroids
from reidkit.memory.config import MemoryConfig
from reidkit.memory.dino import DinoLoss
from reidkit.memory.triplet import batch_hard_triplet

__all__ = ["ClusterMemory", "DinoLoss", "MemoryConfig", "batch_contrast", "batch_hard_triplet", "cluster_centroids"]
