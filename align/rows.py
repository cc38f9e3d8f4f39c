"""The rows that pass between stages and are not the sandbox's or the judges' own.

Each kind has its Arrow schema here; a stage builds plain dicts that fit it. Message lists are
`[{"role": str, "content": str}]`. Ids are hashes of what made the row (see `align.artifacts`).
"""

from __future__ import annotations

import pyarrow as pa

from align.settings import CHECKLIST

MESSAGES = pa.list_(pa.struct([("role", pa.string()), ("content", pa.large_string())]))

#: One candidate answer of a policy. `text` is the raw completion without the prefill; `code` is
#: null where extraction found none. `sum_logprob` is in nats over the completion's tokens.
SAMPLE = pa.schema(
    [
        ("sample_id", pa.string()),
        ("task_id", pa.string()),
        ("sample_index", pa.int64()),
        ("messages", MESSAGES),
        ("prefill", pa.large_string()),
        ("template_sha", pa.string()),
        ("text", pa.large_string()),
        ("token_ids", pa.list_(pa.int32())),
        ("code", pa.large_string()),
        ("extractor", pa.string()),
        ("finish_reason", pa.string()),
        ("stop_reason", pa.string()),
        ("n_tokens", pa.int64()),
        ("sum_logprob", pa.float64()),
        (
            "policy",
            pa.struct(
                [("model", pa.string()), ("weights_sha", pa.string()), ("adapter_sha", pa.string())]
            ),
        ),
        (
            "sampler",
            pa.struct(
                [
                    ("temperature", pa.float64()),
                    ("top_p", pa.float64()),
                    ("max_tokens", pa.int64()),
                    ("stop", pa.list_(pa.string())),
                    ("seed", pa.int64()),
                    ("engine", pa.string()),
                ]
            ),
        ),
    ]
)

#: What happened when a sample ran (`sandbox.Verdict.to_row()` and whose sample it was). Nested
#: values are JSON text.
VERDICT = pa.schema(
    [
        ("verdict_id", pa.string()),
        ("sample_id", pa.string()),
        ("task_id", pa.string()),
        ("sample_index", pa.int64()),
        ("outcome", pa.string()),
        ("passed", pa.int64()),
        ("total", pa.int64()),
        ("tests", pa.large_string()),
        ("strength", pa.string()),
        ("detail", pa.large_string()),
        ("cpu_ms", pa.float64()),
        ("wall_ms", pa.float64()),
        ("test_ms", pa.list_(pa.float64())),
        ("run_cpu_ms", pa.list_(pa.float64())),
        ("peak_bytes", pa.int64()),
        ("engine", pa.string()),
        ("isolation", pa.string()),
        ("image", pa.string()),
        ("limits", pa.string()),
        ("tests_sha", pa.string()),
        ("code_sha", pa.string()),
    ]
)

#: A judge's view of a sample (`judges.Judgement.to_row()` and whose sample it was).
JUDGEMENT = pa.schema(
    [
        ("judgement_id", pa.string()),
        ("sample_id", pa.string()),
        ("task_id", pa.string()),
        ("rubric", pa.string()),
        ("rubric_sha", pa.string()),
        ("status", pa.string()),
        ("score", pa.float64()),
        ("probs", pa.string()),
        ("leftover", pa.float64()),
        ("entropy", pa.float64()),
        ("rationale", pa.large_string()),
        ("judge", pa.string()),
        ("prompt_sha", pa.string()),
        ("usage", pa.string()),
        ("detail", pa.large_string()),
    ]
)

#: One row to train on. `kind` is `chat` (then `messages`) or `fim` (then `fim`); `origin` is JSON
#: text that cites sample, verdict and judgement, or source file and line, or path and span.
TRAIN_ROW = pa.schema(
    [
        ("row_id", pa.string()),
        ("kind", pa.string()),
        ("messages", MESSAGES),
        (
            "fim",
            pa.struct(
                [
                    ("prefix", pa.large_string()),
                    ("middle", pa.large_string()),
                    ("suffix", pa.large_string()),
                    ("context", pa.large_string()),
                    ("wrapper", pa.string()),
                ]
            ),
        ),
        ("weight", pa.float64()),
        ("origin", pa.large_string()),
        ("licence", pa.string()),
    ]
)

#: A row as the data stage writes it. `language` is the programming language, `unknown`, or
#: `no code`; `checklist` and `quality` are null where nobody scored the row.
DATA_ROW = pa.schema(
    [
        *TRAIN_ROW,
        ("language", pa.string()),
        ("checklist", pa.struct([(item, pa.float64()) for item in CHECKLIST])),
        ("quality", pa.float64()),
    ]
)

#: A row that the data stage left out. `kind` is why in a word, `reason` in a sentence.
DROPPED = pa.schema(
    [
        ("drop_id", pa.string()),
        ("source", pa.string()),
        ("place", pa.string()),
        ("kind", pa.string()),
        ("reason", pa.large_string()),
    ]
)

#: One overlap with a benchmark's problem; a row or task may have several. `rule` is `ngram`, `lcs`
#: or `entry_point`, `side` is `prompt` or `answer`.
CONTAMINATION = pa.schema(
    [
        ("hit_id", pa.string()),
        ("place", pa.string()),
        ("side", pa.string()),
        ("benchmark", pa.string()),
        ("problem", pa.string()),
        ("rule", pa.string()),
        ("evidence", pa.large_string()),
    ]
)

#: A problem; `tests` is one JSON string in the protocol's tagged encoding (`sandbox.parse_task`).
TASK = pa.schema(
    [
        ("task_id", pa.string()),
        ("language", pa.string()),
        ("messages", MESSAGES),
        ("prompt", pa.large_string()),
        ("entry_point", pa.string()),
        ("tests", pa.large_string()),
        ("limits", pa.string()),
        ("reference", pa.large_string()),
        ("source", pa.string()),
        ("licence", pa.string()),
        ("split", pa.string()),
    ]
)

#: What a pair keeps of each side. `passed` of `total` tests; `sum_logprob` in nats under the policy
#: that drew the sample, whose weights `weights_sha` names; `score` is the judge's.
_PAIR_SIDE = (
    ("sample_id", pa.string()),
    ("verdict_id", pa.string()),
    ("judgement_id", pa.string()),
    ("outcome", pa.string()),
    ("passed", pa.int64()),
    ("total", pa.int64()),
    ("tokens", pa.int64()),
    ("finish_reason", pa.string()),
    ("sum_logprob", pa.float64()),
    ("score", pa.float64()),
    ("weights_sha", pa.string()),
)

#: A preference pair with its history; `chosen` and `rejected` hold the assistant's turn alone.
#: `negative` is how the rejected side was picked among the failing ones, where it was picked so.
PAIR = pa.schema(
    [
        ("pair_id", pa.string()),
        ("prompt", MESSAGES),
        ("chosen", MESSAGES),
        ("rejected", MESSAGES),
        ("task_id", pa.string()),
        ("language", pa.string()),
        ("licence", pa.string()),
        ("rule", pa.string()),
        ("negative", pa.string()),
        ("margin", pa.float64()),
        ("similarity", pa.float64()),
        ("length_delta", pa.int64()),
        *((f"{side}_{name}", kind) for side in ("chosen", "rejected") for name, kind in _PAIR_SIDE),
    ]
)

#: A sample that tampered with its tests. It enters no pair; it is kept to learn from.
TAMPERED = pa.schema(
    [
        ("sample_id", pa.string()),
        ("task_id", pa.string()),
        ("verdict_id", pa.string()),
        ("text", pa.large_string()),
        ("code", pa.large_string()),
        ("detail", pa.large_string()),
    ]
)
