"""Self-correcting generative recommendation: draft semantic IDs, reflect, rewrite."""

from redraft.recommender import load

__all__ = ["load"]
