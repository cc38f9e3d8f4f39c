"""Settings of what a run stands on: the sandbox, and servers of models."""

from __future__ import annotations

import os
from typing import Annotated, Any, Literal

from pydantic import Field

from align.settings.base import Positive, Settings


def _default_image() -> Any:
    return os.environ.get("ALIGN_SANDBOX_IMAGE") or "python"


class SandboxSettings(Settings):
    """Where untrusted code runs."""

    engine: Literal["auto", "docker", "namespaces"] = "auto"
    isolation: Literal["container+ns", "container", "ns"] | None = Field(
        default=None, description="name a level to accept it although the engine could do better"
    )
    workers: Positive = Field(
        default=2, description="programs at once; the number of cores is right"
    )
    image: Literal["python", "python-data"] = Field(
        default_factory=_default_image,
        validate_default=True,
        description="what programs see: `python-data` has numpy and pandas; default: "
        "$ALIGN_SANDBOX_IMAGE, else `python`",
    )
    runtime: str | None = Field(
        default=None, description="the Docker engine's runtime of containers, such as `runsc`"
    )


class ServingSettings(Settings):
    """How a model is served for sampling, judging and evaluation."""

    endpoint: str | None = Field(
        default=None, description="an OpenAI-compatible URL to use as it is"
    )
    dtype: Literal["auto", "bfloat16", "float16", "float32"] = Field(
        default="auto",
        description="`auto`: on a CPU bfloat16 or float32, what it multiplies faster; on a GPU "
        "what vLLM takes",
    )
    max_model_len: Positive = 2048
    max_num_seqs: Positive = 64
    kv_cache_gib: Annotated[float, Field(gt=0)] = 1.0
    eager: bool = Field(
        default=True, description="skip compiling: right for short jobs and for CPUs"
    )
    prefix_caching: bool = Field(
        default=True,
        description="compute once what prompts begin with alike; off, a number's last digits do "
        "not depend on what was asked before",
    )
    start_timeout_s: Positive = 300
