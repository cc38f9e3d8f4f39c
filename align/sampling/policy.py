"""What identifies a policy: what it was made from, the hash of its weights, its tokenizer."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

from align.chat import Tokenizer
from align.checkpoint import check_checkpoint, weights_sha
from align.errors import CheckpointError
from align.lineage import origin


@dataclass(frozen=True)
class Policy:
    """A checkpoint that answers prompts.

    Attributes:
        folder: Where it lies.
        tokenizer: Its tokenizer.
        weights_sha: Hash of the weight files.
        made_from: Name of the model that training started from.
    """

    folder: Path
    tokenizer: Tokenizer
    weights_sha: str
    made_from: str | None

    def row(self) -> dict[str, Any]:
        """Returns the `policy` column of a sample; `model` is what training started from."""
        return {"model": self.made_from, "weights_sha": self.weights_sha, "adapter_sha": None}


def load_policy(folder: Path) -> Policy:
    """Reads tokenizer and weight hash of a checkpoint folder.

    Raises:
        CheckpointError: Something is missing, or the tokenizer can't be read.
    """
    check_checkpoint(folder)
    from transformers import AutoTokenizer

    try:
        tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True)
    except (OSError, ValueError, KeyError) as error:
        raise CheckpointError(f"the tokenizer in {folder} can't be read: {error}") from error
    made_from = origin(folder)["name"]
    return Policy(folder, cast(Tokenizer, tokenizer), weights_sha(folder), made_from)
