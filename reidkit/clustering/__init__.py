"""Pseudo-labels from features: nearest neighbours, k-reciprocal Jaccard graph, DBSCAN or HDBSCAN.

Works on plain arrays of any embeddings; needs no model and no data set of this package.
"""

from reidkit.clustering.analysis import FeatureGraph, build_graph, cluster_graph
from reidkit.clustering.checks import check_count, check_distance, check_neighbourhood
from reidkit.clustering.config import ClusteringConfig
from reidkit.clustering.dbscan import dbscan
from reidkit.clustering.estimators import JaccardDBSCAN, JaccardHDBSCAN, create_clusterer
from reidkit.clustering.hdbscan import hdbscan
from reidkit.clustering.jaccard import jaccard_graph
from reidkit.clustering.jaccard_pairs import jaccard_rows
from reidkit.clustering.neighbours import nearest_neighbours
from reidkit.clustering.quality import (
    ClusteringQuality,
    SizeBin,
    camera_mix,
    cluster_sizes,
    clustering_quality,
    clustering_record,
    identity_agreement,
    silhouette,
    size_histogram,
    stability,
)
from reidkit.clustering.reciprocal import NeighbourLists
from reidkit.clustering.suggestion import EPS_TRIALS, EpsSuggestion, suggest_eps

__all__ = [
    "EPS_TRIALS",
    "ClusteringConfig",
    "ClusteringQuality",
    "EpsSuggestion",
    "FeatureGraph",
    "JaccardDBSCAN",
    "JaccardHDBSCAN",
    "NeighbourLists",
    "SizeBin",
    "build_graph",
    "camera_mix",
    "check_count",
    "check_distance",
    "check_neighbourhood",
    "cluster_graph",
    "cluster_sizes",
    "clustering_quality",
    "clustering_record",
    "create_clusterer",
    "dbscan",
    "hdbscan",
    "identity_agreement",
    "jaccard_graph",
    "jaccard_rows",
    "nearest_neighbours",
    "silhouette",
    "size_histogram",
    "stability",
    "suggest_eps",
]
