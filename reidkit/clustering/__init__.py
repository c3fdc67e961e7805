"""Pseudo-labels from features: nearest neighbours, k-reciprocal Jaccard graph, DBSCAN.

Works on plain arrays of any embeddings; needs no model and no data set of this package.
"""

from reidkit.clustering.config import ClusteringConfig
from reidkit.clustering.dbscan import dbscan
from reidkit.clustering.estimators import JaccardDBSCAN
from reidkit.clustering.jaccard import jaccard_graph
from reidkit.clustering.neighbours import nearest_neighbours

__all__ = ["ClusteringConfig", "JaccardDBSCAN", "dbscan", "jaccard_graph", "nearest_neighbours"]
