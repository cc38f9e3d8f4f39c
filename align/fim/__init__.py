"""Fill-in-the-middle: rows cut from real source files, their token format, and its use."""

from align.fim.corpus import corpus_sha
from align.fim.formats import encode_fim, encode_fim_prompt
from align.fim.stage import run

__all__ = ["corpus_sha", "encode_fim", "encode_fim_prompt", "run"]
