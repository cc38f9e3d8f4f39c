"""Asks a judge until everything is answered, across servers that die, within its budget."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import TypeVar

from align.checkpoint import weights_sha, words_sha
from align.completions import look_up
from align.errors import BudgetError, InputError, ServingError
from align.lineage import origin
from align.settings import JudgeSettings
from align.stage import Context
from judges import AnswerCache, Candidate, Judge, JudgeError, Judgement, Preference, Rubric, Status

_ATTEMPTS = 3
ItemT = TypeVar("ItemT")
ResultT = TypeVar("ResultT", Judgement, Preference)


class JudgeAsker:
    """One judge model, served by the run or at an endpoint, that several rubrics are put to.

    Args:
        settings: Which judge, and how it is asked.
        inputs: `model` unless `settings.endpoint` is given.
        context: The run.
        answers: Keeps what was answered.

    Attributes:
        name: What judgements call the judge.
        model: The model that it is or was made from.
        weights_sha: Hash of its weights; None at an endpoint, which does not tell.
        seed: Orders what is drawn.
    """

    name: str
    model: str
    weights_sha: str | None
    seed: int

    def __init__(
        self,
        settings: JudgeSettings,
        inputs: Mapping[str, Path],
        context: Context,
        answers: AnswerCache,
    ) -> None:
        """Names the judge by what it is, not by where it lies or under which name it is served."""
        self._settings = settings
        self._inputs = inputs
        self._context = context
        self._answers = answers
        self._spent = 0
        self.seed = context.seed
        if settings.endpoint:
            if not settings.model:
                raise InputError("judge.endpoint needs judge.model: the name that it serves")
            self.name = self.model = str(settings.model)
            self.weights_sha = None
            self._identity = self.name
        else:
            folder = inputs["model"]
            self.model = str(origin(folder)["name"])
            self.weights_sha = weights_sha(folder)
            self.name = f"{self.model}@{self.weights_sha[:12]}"
            self._identity = f"{self.name} {words_sha(folder)}"

    def score(
        self, rubric: Rubric, candidates: Iterable[Candidate], *, guarded: bool = True
    ) -> Iterator[Judgement]:
        """Yields a judgement of each candidate.

        Raises:
            ServingError: The server can't be started or kept alive; what was answered is kept.
            BudgetError: The budget has no room for all; what was answered is kept.
        """
        return self._ask(
            {each.candidate_id: each for each in candidates},
            rubric,
            guarded,
            lambda judge, items: judge.score_many(items),
            lambda judgement: judgement.candidate_ids[0],
        )

    def compare(
        self, rubric: Rubric, pairs: Iterable[tuple[Candidate, Candidate]]
    ) -> Iterator[Preference]:
        """Yields a preference for each pair.

        Raises:
            ServingError: As `score`.
            BudgetError: As `score`.
        """
        return self._ask(
            {(a.candidate_id, b.candidate_id): (a, b) for a, b in pairs},
            rubric,
            True,
            lambda judge, items: judge.compare_many(items),
            lambda preference: preference.candidate_ids,
        )

    def _ask(
        self,
        left: dict[str, ItemT] | dict[tuple[str, str], ItemT],
        rubric: Rubric,
        guarded: bool,
        ask: Callable[[Judge, Iterable[ItemT]], Iterator[ResultT]],
        key: Callable[[ResultT], str] | Callable[[ResultT], tuple[str, str]],
    ) -> Iterator[ResultT]:
        everything = len(left)
        for _ in range(_ATTEMPTS):
            if not left:
                return
            try:
                judge = self._open(rubric, guarded)
            except JudgeError as error:
                raise InputError(f"the judge can't be asked: {error}") from error
            try:
                for result in ask(judge, list(left.values())):
                    if result.status is Status.INFRA_ERROR:
                        self._context.log("infra_error", detail=_detail(result))
                    else:
                        del left[key(result)]  # type: ignore[arg-type]
                        yield result
            except JudgeError as error:
                raise ServingError(f"judging stopped: {error}") from error
            finally:
                self._spent += judge.spent.prompt_tokens + judge.spent.completion_tokens
            if judge.budget_spent and left:
                raise BudgetError(
                    f"the judge's budget of {self._settings.budget_tokens} tokens is spent, and "
                    f"{len(left)} of {everything} are not judged yet; what was answered is kept. "
                    "The same command goes on, and spends as much again; or raise budget_tokens"
                )
        if left:
            raise ServingError(
                f"{len(left)} of {everything} could not be judged: the judge's server failed "
                f"{_ATTEMPTS} times (see log.jsonl); the others are kept: run the same command "
                "again"
            )

    def _open(self, rubric: Rubric, guarded: bool) -> Judge:
        settings = self._settings
        if settings.endpoint and settings.model:
            url, name, engine = settings.endpoint, settings.model, ""
        else:
            served = look_up(self._context.servers, self._inputs["model"])
            url, name, engine = served.url, served.name, served.engine
        budget = settings.budget_tokens
        return Judge(
            url,
            name,
            rubric,
            seed=self._context.seed,
            concurrency=settings.concurrency,
            rationale_tokens=settings.rationale_tokens,
            guarded=guarded,
            identity=f"{self._identity} {engine}",
            budget_tokens=None if budget is None else max(0, budget - self._spent),
            cache=self._answers,
        )


def _detail(result: Judgement | Preference) -> str:
    if isinstance(result, Judgement):
        return result.detail
    return "; ".join(each.detail for each in result.judgements if each.detail)
