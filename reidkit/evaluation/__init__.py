"""Ranking metrics on plain arrays."""

from reidkit.evaluation.ranking import RankingResult, evaluate_distances, evaluate_ranking

__all__ = ["RankingResult", "evaluate_distances", "evaluate_ranking"]
