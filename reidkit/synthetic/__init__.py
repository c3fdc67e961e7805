"""Generated pedestrians: a demonstration set in Market-1501's layout, a deterministic function of a seed."""

from reidkit.synthetic.config import SyntheticConfig
from reidkit.synthetic.generate import FORMAT, make_synthetic

__all__ = ["FORMAT", "SyntheticConfig", "make_synthetic"]
