"""Memory banks and the losses over them."""

from reidkit.memory.batch_contrast import batch_contrast
from reidkit.memory.cluster_memory import ClusterMemory, cluster_centroids
from reidkit.memory.config import MemoryConfig

__all__ = ["ClusterMemory", "MemoryConfig", "batch_contrast", "cluster_centroids"]
