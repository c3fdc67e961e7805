"""Settings of the clustering."""

from typing import Literal, Self

from pydantic import Field, model_validator

from reidkit.clustering.checks import check_distance, check_neighbourhood
from reidkit.config import Settings

__all__ = ["ClusteringConfig"]


class ClusteringConfig(Settings):
    """How features become pseudo-labels; `create_clusterer` builds the estimator, whose parameters have these names."""

    method: Literal["dbscan", "hdbscan"] = "dbscan"
    """Method that clusters the Jaccard distances. dbscan: one density, eps, for all; hdbscan: one for each cluster."""

    eps: float = 0.6
    """Largest Jaccard distance of neighbours, in (0, 1): 0.6 for Market-1501, 0.7 for MSMT17. Higher merges more.
    dbscan only."""

    min_cluster_size: int = Field(default=4, ge=2)
    """Fewest images of a cluster, at least 2. hdbscan only."""

    min_samples: int = Field(default=4, ge=1)
    """dbscan: images within eps, the image itself included, that make a core point of a cluster. hdbscan: the distance
    to this nearest other image (the first, the second, ...) says how dense it is around an image."""

    k1: int = Field(default=30, ge=1)
    """Nearest neighbours, the image itself included, among which reciprocal ones are sought."""

    k2: int = Field(default=6, ge=1)
    """Nearest neighbours whose encodings are averaged (query expansion), at most k1; 1 turns it off."""

    backend: Literal["auto", "torch", "faiss", "approximate"] = "auto"
    """Library that searches the nearest neighbours; the result is the same. auto: the fastest exact one. approximate:
    faiss' inverted lists, which miss some neighbours; their share is logged."""

    device: str = ""
    """Device that searches the nearest neighbours, as torch names it ("cpu", "cuda", "cuda:1"); empty: the run's. The
    result is the same."""

    threads: int | None = Field(default=None, ge=1)
    """Threads of the clustering; None: every core. The result is the same."""

    @model_validator(mode="after")
    def _check(self) -> Self:
        check_distance("eps", self.eps)
        check_neighbourhood(self.k1, self.k2)
        return self
