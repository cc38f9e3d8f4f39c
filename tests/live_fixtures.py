"""A plugin: one tiny model and one real vLLM server for the whole session."""

from __future__ import annotations

import importlib.util
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from align.serving import Servers
from align.settings import ServingSettings
from tests.live import TRAINED
from tests.tiny import build_tiny_model


def require_vllm() -> None:
    """Skips a test where vLLM is not installed, or fails it where it must be."""
    if importlib.util.find_spec("vllm") is None:
        if os.environ.get("ALIGN_REQUIRE_VLLM") == "1":
            pytest.fail("vLLM is not installed, and ALIGN_REQUIRE_VLLM=1 asks for it")
        pytest.skip("vLLM is not installed")


@pytest.fixture(scope="session")
def model_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model that has learnt two answers by heart: one right, one wrong."""
    return build_tiny_model(tmp_path_factory.mktemp("live") / "model", train_on=TRAINED)


@pytest.fixture(scope="session")
def live_servers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Servers]:
    """The servers of the session; float32, so that log-probs can be compared."""
    require_vllm()
    settings = ServingSettings(dtype="float32", kv_cache_gib=0.25, max_model_len=1024)
    with Servers(settings, tmp_path_factory.mktemp("logs")) as servers:
        yield servers
