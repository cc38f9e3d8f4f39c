"""Runs `align`, and kills its whole process group once a stage has written its second shard.

Usage: kill_at_shard.py SENT INSTANCE ARGUMENTS...

INSTANCE may be `-`: then nothing is killed. Every answered request to a model server is noted in
the file SENT (a hash of its body), so that a test can see whether one was sent again.
"""

from __future__ import annotations

import hashlib
import json
import os
import signal
import sys
from pathlib import Path
from typing import Any

import httpx

from align import artifacts, cli

sent, victim = Path(sys.argv[1]), sys.argv[2]
sys.argv = ["align", *sys.argv[3:]]

close_shard = artifacts.TableWriter._close_shard
request_send = httpx.AsyncClient.send


def close_and_die(self: artifacts.TableWriter) -> None:
    """Closes a shard; the second one of the victim is the last thing that happens."""
    close_shard(self)
    if self._identity.instance == victim and self._next_shard == 2:
        os.killpg(os.getpgrp(), signal.SIGKILL)


async def note_answered(self: httpx.AsyncClient, request: httpx.Request, **kwargs: Any) -> Any:
    """Sends a request, and notes it when it was answered."""
    response = await request_send(self, request, **kwargs)
    if request.method == "POST" and "completions" in request.url.path:
        with sent.open("a", encoding="utf-8") as stream:
            body = json.loads(request.content)
            del body["model"]  # a served name knows the run's folder
            digest = hashlib.sha256(json.dumps(body).encode()).hexdigest()
            stream.write(f"{request.url.path} {digest}\n")
    return response


artifacts.TableWriter._close_shard = close_and_die  # type: ignore[method-assign]
httpx.AsyncClient.send = note_answered  # type: ignore[method-assign,assignment]
cli.main()
