"""Backbones: images to features. ViTs with the IBN convolution stem, timm's models, the neck, checkpoint formats.

`create_backbone` makes one by name, `EmbeddingModel` adds the neck, `load_weights` reads every published layout.
"""

from reidkit.backbones.checkpoints import LoadReport, load_weights, read_checkpoint
from reidkit.backbones.config import BackboneConfig
from reidkit.backbones.domains import merge_domains, source_statistics, split_domains
from reidkit.backbones.embedding import EmbeddingModel, Embeddings
from reidkit.backbones.factory import create_backbone, is_published
from reidkit.backbones.formats import NECK, Architecture, infer_architecture, to_supervised_layout, to_usl_layout
from reidkit.backbones.pooling import GeM
from reidkit.backbones.positions import resize_position_embedding
from reidkit.backbones.synchronised import synchronise_norms
from reidkit.backbones.views import embed_views
from reidkit.backbones.vit import is_own_vit

__all__ = [
    "NECK",
    "Architecture",
    "BackboneConfig",
    "EmbeddingModel",
    "Embeddings",
    "GeM",
    "LoadReport",
    "create_backbone",
    "embed_views",
    "infer_architecture",
    "is_own_vit",
    "is_published",
    "load_weights",
    "merge_domains",
    "read_checkpoint",
    "resize_position_embedding",
    "source_statistics",
    "split_domains",
    "synchronise_norms",
    "to_supervised_layout",
    "to_usl_layout",
]
