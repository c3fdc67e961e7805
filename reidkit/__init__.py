"""Re-identification without labels: pseudo-label clustering on ViT-ICS, exact, sparse and resumable.

The rooms: `reidkit.datasets`, `reidkit.backbones`, `reidkit.clustering`, `reidkit.memory`, `reidkit.evaluation`
(each useful alone), `reidkit.loop` (the alternation), `reidkit.usl` (a mode), `reidkit.cli`. Importing this
package loads none of them.
"""

from reidkit.__about__ import __version__

__all__ = ["__version__"]
