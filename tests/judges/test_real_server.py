"""Against a real vLLM server with a tiny model: what is asked for is what vLLM gives."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from align.serving import Servers, served_name
from align.settings import ServingSettings
from judges import Candidate, Judge, JudgeError, Judgement, Status, client, load_rubric
from judges.prompts import render
from tests.tiny import build_tiny_model

pytestmark = [pytest.mark.vllm, pytest.mark.slow]

RUBRIC = load_rubric("code_quality")
CANDIDATES = [
    Candidate(f"c{i}", "Return the number.", f"def f():\n    return {i}") for i in range(12)
]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model that has words for a rationale: one of random weights writes blanks."""
    said = [("Grade one solution.", "It returns the number."), ("Compare.", "The first one.")]
    return build_tiny_model(tmp_path_factory.mktemp("model"), train_on=said, steps=60)


@pytest.fixture(scope="module")
def servers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Servers]:
    settings = ServingSettings(dtype="float32", kv_cache_gib=0.25)
    with Servers(settings, tmp_path_factory.mktemp("logs")) as running:
        yield running


def judge_of(servers: Servers, folder: Path, rubric: str = "code_quality") -> Judge:
    return Judge(
        servers.model(folder), served_name(folder), load_rubric(rubric), rationale_tokens=12
    )


def scored(servers: Servers, folder: Path, candidates: list[Candidate]) -> dict[str, Judgement]:
    judge = judge_of(servers, folder)
    return {j.candidate_ids[0]: j for j in judge.score_many(candidates)}


def test_probabilities_are_those_of_the_model_before_any_mask(
    servers: Servers, folder: Path
) -> None:
    judgement = scored(servers, folder, CANDIDATES[:1])["c0"]
    assert judgement.status is Status.OK, judgement.detail
    tokenizer = AutoTokenizer.from_pretrained(folder)
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
    messages = render(RUBRIC, CANDIDATES[:1], 0).with_rationale(judgement.rationale, RUBRIC.name)
    prompt = tokenizer.apply_chat_template(
        messages, add_generation_prompt=True, return_tensors="pt", return_dict=True
    )
    with torch.no_grad():
        probabilities_V = model(**prompt).logits[0, -1].softmax(-1)
    expected = {label: float(probabilities_V[tokenizer.encode(label)[0]]) for label in "12345"}
    mass = sum(expected.values())
    assert judgement.leftover == pytest.approx(1 - mass, abs=1e-4)
    assert 1 - mass > 0.5  # A model that knows nothing of labels; a masked one would leave 0.
    assert judgement.probs == pytest.approx({k: v / mass for k, v in expected.items()}, abs=1e-3)
    assert judgement.usage.requests == 2
    assert judgement.usage.prompt_tokens > prompt["input_ids"].shape[1]


def test_many_are_judged_and_a_rerun_names_them_alike(servers: Servers, folder: Path) -> None:
    first, again = (scored(servers, folder, CANDIDATES) for _ in range(2))
    assert {j.status for j in first.values()} == {Status.OK}
    assert set(first) == {candidate.candidate_id for candidate in CANDIDATES}
    assert {k: j.judgement_id for k, j in first.items()} == {
        k: j.judgement_id for k, j in again.items()
    }


def test_a_comparison_is_answered_in_both_orders(servers: Servers, folder: Path) -> None:
    async def run() -> None:
        async with judge_of(servers, folder, "preference") as judge:
            preference = await judge.compare(*CANDIDATES[:2])
            assert preference.status is Status.OK
            assert preference.p_first is not None
            assert 0 < preference.p_first < 1

    asyncio.run(run())


def test_a_candidate_longer_than_the_context_is_truncated(servers: Servers, folder: Path) -> None:
    long = Candidate("long", "t", "x = 1\n" * 4000)
    judgement = scored(servers, folder, [long])["long"]
    assert (judgement.status, judgement.score) == (Status.TRUNCATED, None)
    assert "context" in judgement.detail


def test_a_label_of_two_tokens_is_refused_by_the_real_tokenizer(
    servers: Servers, folder: Path
) -> None:
    scale = [*RUBRIC.scale[:-1], RUBRIC.scale[-1].model_copy(update={"label": "10"})]
    judge = Judge(
        servers.model(folder), served_name(folder), RUBRIC.model_copy(update={"scale": scale})
    )
    with pytest.raises(JudgeError, match="'10' is 2 tokens"):
        next(iter(judge.score_many(CANDIDATES)))


def test_a_wrong_model_name_stops_everything(servers: Servers, folder: Path) -> None:
    with pytest.raises(JudgeError, match="nobody"):
        next(iter(Judge(servers.model(folder), "nobody", RUBRIC).score_many(CANDIDATES)))


def test_a_server_that_dies_ends_in_infra_errors(
    servers: Servers, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(client, "BACKOFF_S", 0.01)
    results = judge_of(servers, folder).score_many(
        Candidate(f"d{i}", "t", f"x = {i}") for i in range(80)
    )
    first = next(results)
    servers.stop()
    judgements = [first, *results]
    assert {j.candidate_ids[0] for j in judgements} == {f"d{i}" for i in range(80)}
    unlike = {j.detail for j in judgements if j.status not in (Status.OK, Status.INFRA_ERROR)}
    assert not unlike
    assert any(j.status is Status.INFRA_ERROR for j in judgements)
