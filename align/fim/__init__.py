"""Fill-in-the-middle: rows cut from real source files, their token format, and its use."""

from align.fim.complete import complete
from align.fim.corpus import corpus_sha
from align.fim.formats import RepoContext, encode_fim, encode_fim_prompt
from align.fim.stage import run

__all__ = ["RepoContext", "complete", "corpus_sha", "encode_fim", "encode_fim_prompt", "run"]
