"""Ranking metrics and re-ranking, on plain arrays."""

from reidkit.evaluation.ranking import RankingResult, evaluate_distances, evaluate_ranking, evaluate_reranked
from reidkit.evaluation.reranking import rerank

__all__ = ["RankingResult", "evaluate_distances", "evaluate_ranking", "evaluate_reranked", "rerank"]
