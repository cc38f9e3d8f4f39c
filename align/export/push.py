"""Uploads a folder that was written to be published."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from align.errors import ArtifactError


def push(folder: Path, repo: str, kind: Literal["model", "dataset"] = "model") -> str:
    """Uploads a folder to the Hub and returns its address there.

    Args:
        folder: What `align export` wrote (its `model` or its `pairs`), or `align pair publish`.
        repo: Hub id, `owner/name`; made when missing.
        kind: What the folder is.

    Raises:
        ArtifactError: The folder is not there, or the Hub can't be reached or refuses.
    """
    from huggingface_hub import HfApi

    if not (folder / "README.md").is_file():
        raise ArtifactError(f"{folder} is no exported folder: it has no README.md; export first")
    api = HfApi()
    try:
        address = api.create_repo(repo, repo_type=kind, exist_ok=True)
        api.upload_folder(folder_path=folder, repo_id=repo, repo_type=kind)
    except (OSError, ValueError) as error:  # the client's own errors are children of these
        raise ArtifactError(
            f"{folder} could not be uploaded to {repo}: {error}; log in with `hf auth login`, and "
            "try again"
        ) from error
    return str(address)
