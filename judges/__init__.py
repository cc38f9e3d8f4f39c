"""Scores code with a language model behind an OpenAI-compatible URL.

A judge reads a rubric, a task and a candidate, writes a short rationale, and gives one label whose
probabilities are read from the model. It never decides correctness where tests exist, and a
judgement that failed has a status and no score. See docs/judging.md.

    judge = Judge("http://127.0.0.1:8000/v1", "my-model", load_rubric("code_quality"))
    for judgement in judge.score_many(candidates):
        print(judgement.candidate_ids, judgement.status, judgement.score)
"""

from judges.cache import AnswerCache
from judges.calibration import (
    Auroc,
    MeanScore,
    mean_score_by_outcome,
    parse_failure_rate,
    within_problem_auroc,
)
from judges.errors import JudgeError
from judges.judge import Judge
from judges.judgement import Candidate, Judgement, Preference, Status, Usage
from judges.pairwise import combine_orders
from judges.rubric import Rubric, load_rubric, shipped_rubrics

__all__ = [
    "AnswerCache",
    "Auroc",
    "Candidate",
    "Judge",
    "JudgeError",
    "Judgement",
    "MeanScore",
    "Preference",
    "Rubric",
    "Status",
    "Usage",
    "combine_orders",
    "load_rubric",
    "mean_score_by_outcome",
    "parse_failure_rate",
    "shipped_rubrics",
    "within_problem_auroc",
]
