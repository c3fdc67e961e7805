"""Generated pedestrians: a demonstration set in Market-1501's layout, a deterministic function of a seed."""

from reidkit.datasets.synthetic.config import SyntheticConfig
from reidkit.datasets.synthetic.generate import FORMAT, make_synthetic

__all__ = ["FORMAT", "SyntheticConfig", "make_synthetic"]
