"""An HTTP server on loopback that answers as vLLM does, and fails on command.

The one place where a stand-in is used: a real server can't be made to hang up, refuse or answer
garbage at a given moment. Its tokenizer has one token a character.
"""

from __future__ import annotations

import json
import math
import sys
import threading
from collections.abc import Callable, Mapping
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

Body = dict[str, Any]
Distribution = Mapping[str, float]


class FaultServer:
    """Judges by `opinion`, after the faults in `faults` have been played.

    Attributes:
        opinion: From the messages of a label request to the probability of each label; what is
            left to one is given to tokens that are no label.
        rationale: From the messages of a rationale request to what the judge writes.
        faults: Faults for the requests of each step (`rationale`, `label`, `tokenize`), in order
            of arrival. See `_Handler.fail`.
        always: Faults that never end, by step.
        requests: Bodies of the requests that arrived, with their path under `path`.
        hold: While cleared, requests wait.
    """

    def __init__(self) -> None:
        self.opinion: Callable[[list[Body]], Distribution] = lambda messages: {"3": 1.0}
        self.rationale: Callable[[list[Body]], str] = lambda messages: "It works, plainly."
        self.faults: dict[str, list[str]] = {"rationale": [], "label": [], "tokenize": []}
        self.always: dict[str, str] = {}
        self.requests: list[Body] = []
        self.hold = threading.Event()
        self.hold.set()
        self.lock = threading.Lock()
        handler = type("Handler", (_Handler,), {"play": self})
        self._http = _Server(("127.0.0.1", 0), handler)
        self.url = f"http://127.0.0.1:{self._http.server_port}/v1"
        self._thread = threading.Thread(target=self._http.serve_forever, args=[0.02], daemon=True)
        self._thread.start()

    def close(self) -> None:
        self.hold.set()
        self._http.shutdown()
        self._http.server_close()
        self._thread.join()

    def sent(self, step: str) -> list[Body]:
        return [body for body in self.requests if body["step"] == step]


class _Server(ThreadingHTTPServer):
    daemon_threads = True

    def handle_error(self, request: Any, client_address: Any) -> None:
        if not isinstance(sys.exception(), ConnectionError):  # Hanging up is part of the play.
            super().handle_error(request, client_address)


class _Handler(BaseHTTPRequestHandler):
    play: FaultServer
    protocol_version = "HTTP/1.1"

    def do_POST(self) -> None:
        length = int(self.headers["Content-Length"])
        content = self.rfile.read(length)
        if len(content) < length:
            raise ConnectionError("the client left in the middle of its request")
        body = json.loads(content)
        step = "tokenize" if self.path == "/tokenize" else "rationale"
        if "allowed_token_ids" in body:
            step = "label"
        with self.play.lock:
            self.play.requests.append({**body, "path": self.path, "step": step})
            queued = self.play.faults[step]
            fault = queued.pop(0) if queued else self.play.always.get(step)
        self.play.hold.wait(10)
        if fault is not None:
            self.fail(fault)
        elif step == "tokenize":
            self.reply({"tokens": [ord(letter) for letter in body["prompt"]]})
        elif step == "rationale":
            self.reply(_completion(self.play.rationale(body["messages"])))
        else:
            self.reply(_label(self.play.opinion(body["messages"]), body))

    def fail(self, fault: str) -> None:
        if fault == "hang_up":
            self.close_connection = True
            self.connection.close()
        elif fault == "not_json":
            self.send(200, b'{"choices": [')
        elif fault == "no_choices":
            self.reply({"choices": [], "usage": {"prompt_tokens": 1, "completion_tokens": 0}})
        elif fault == "empty":
            self.reply(_completion(""))
        elif fault == "blank":
            self.reply(_completion("\n \n"))
        elif fault == "refusal":
            self.reply(_completion("", refusal="This I do not judge."))
        elif fault == "refusal_in_words":
            self.reply(_completion("I'm sorry, but I can't assist with that."))
        elif fault == "filtered":
            self.reply(_completion("It", finish="content_filter"))
        elif fault == "abort":
            self.reply(_completion("It is", finish="abort", tokens=2))
        elif fault == "truncated":
            self.reply(_completion("It is", finish="length", tokens=2))
        elif fault == "too_long":
            message = "This model's maximum context length is 10 tokens. However, ..."
            self.reply({"error": {"message": message, "code": 400}}, status=400)
        elif fault == "unconstrained":
            self.reply(_completion("The answer is 5", finish="length", tokens=1))
        elif fault == "no_logprobs":
            self.reply(_completion("5", finish="length", tokens=1))
        elif fault == "other_logprobs":
            self.reply(_label({"9": 1.0}, {"logprob_token_ids": [ord("9")]}, text="5"))
        else:
            self.reply({"error": {"message": "on command"}}, status=int(fault))

    def reply(self, value: object, status: int = 200) -> None:
        self.send(status, json.dumps(value).encode())

    def send(self, status: int, content: bytes) -> None:
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, format: str, *args: Any) -> None:
        pass


def _completion(
    text: str, *, finish: str = "stop", tokens: int = 7, refusal: str | None = None
) -> Body:
    message = {"role": "assistant", "content": text, "refusal": refusal}
    choice = {"index": 0, "message": message, "finish_reason": finish, "logprobs": None}
    usage = {"prompt_tokens": 100, "completion_tokens": tokens, "total_tokens": 100 + tokens}
    return {"id": "x", "object": "chat.completion", "choices": [choice], "usage": usage}


def _label(opinion: Distribution, body: Body, text: str | None = None) -> Body:
    text = text or max(opinion, key=lambda label: opinion[label])
    reply = _completion(text, finish="length", tokens=1)
    # In no particular order, as from a server; the sampled token comes twice in vLLM.
    ids = [ord(text), *reversed(body["logprob_token_ids"])]
    top = [
        {
            "token": f"token_id:{i}",
            "logprob": math.log(p) if (p := opinion.get(chr(i), 0)) else -9999,
        }
        for i in ids
    ]
    reply["choices"][0]["logprobs"] = {"content": [{**top[0], "top_logprobs": top}]}
    return reply
