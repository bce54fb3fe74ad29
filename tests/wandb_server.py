"""A W&B server on loopback, as far as W&B's client asks one when it uploads a run.

What it asks (wandb 0.31): GraphQL for the resume status, to make or change a run (upsertBucket) and
for the places where files go; then history, summary and the exit in `file_stream` requests, each a
list of lines and the offset where they belong; then files, by PUT. `trouble` makes every answer an
error: 429 (too many requests), 401 (bad key), 500.
"""

from __future__ import annotations

import gzip
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

HISTORY, SUMMARY = "wandb-history.jsonl", "wandb-summary.json"


class WandbServer:
    """Runs by id as a server that was told so would hold them."""

    def __init__(self, trouble: int | None = None) -> None:
        self.trouble = trouble
        self.runs: dict[str, dict[str, Any]] = {}
        self.files: dict[str, set[str]] = {}  # run -> names that were uploaded
        self.artifacts: list[set[str]] = []
        self.requests: list[str] = []
        self.url = ""
        self._pending: set[str] = set()
        self._lock = threading.Lock()

    def history(self, run: str) -> list[dict[str, Any]]:
        return [json.loads(line) for _, line in sorted(self.runs[run]["history"].items())]

    def answer(self, path: str, body: bytes) -> tuple[int, Any]:
        with self._lock:
            self.requests.append(path)
            if self.trouble is not None:
                return self.trouble, {"error": "trouble", "errors": [{"message": "trouble"}]}
            if path == "/graphql":
                asked = json.loads(body)
                return 200, {"data": self._graphql(asked["query"], asked.get("variables") or {})}
            if path.endswith("/file_stream"):
                self._stream(path.split("/")[-2], json.loads(body))
            return 200, {}

    def _graphql(self, query: str, given: dict[str, Any]) -> dict[str, Any]:
        if "RunResumeStatus" in query:
            run = self.runs.get(given["name"])
            bucket = None if run is None else _bucket(run)
            return {"model": {"id": "p", "name": "p", "entity": _ENTITY, "bucket": bucket}}
        if "upsertBucket" in query:
            fresh = {"history": {}, "summary": {}, "upserts": 0, "exit_code": None}
            run = self.runs.setdefault(given["name"], fresh)
            run |= {key: value for key, value in given.items() if value is not None}
            run["upserts"] += 1
            return {"upsertBucket": {"bucket": _bucket(run), "inserted": run["upserts"] == 1}}
        if "createRunFiles" in query:
            names = given["files"]
            self.files.setdefault(given["run"], set()).update(names)
            places = [
                {"name": name, "uploadUrl": f"{self.url}/upload/{given['run']}/{i}"}
                for i, name in enumerate(names)
            ]
            return {"createRunFiles": {"runID": "r", "uploadHeaders": [], "files": places}}
        if "viewer" in query:
            return {"viewer": {"id": "v", "entity": "me", "username": "me", "teams": {"edges": []}}}
        if "ArtifactType" in query:
            return {"project": {"artifact": None}}
        return self._artifacts(query, given)

    def _artifacts(self, query: str, given: dict[str, Any]) -> dict[str, Any]:
        """Making an artifact, step by step; `artifacts` has the files of those committed."""
        sent = given.get("input") or given
        file = {"id": "f", "uploadUrl": f"{self.url}/upload/artifact/0", "uploadHeaders": []}
        file |= {"artifact": {"id": "a"}, "uploadMultipartUrls": None}
        if "createArtifactManifest" in query or "updateArtifactManifest" in query:
            verb = "create" if "createArtifactManifest" in query else "update"
            return {f"{verb}ArtifactManifest": {"artifactManifest": {"id": "m", "file": file}}}
        if "createArtifactFiles" in query:
            names = [one["name"] for one in sent["artifactFiles"]]
            self._pending.update(names)
            edges = [{"node": file | {"storagePath": f"wandb_artifacts/{n}"}} for n in names]
            return {"createArtifactFiles": {"files": {"edges": edges}}}
        if "commitArtifact" in query:
            self.artifacts.append(self._pending)
            self._pending = set()
            return {"commitArtifact": {"artifact": {"id": "a", "digest": "d"}}}
        if "ArtifactByID" in query:
            return {"artifact": _ARTIFACT}
        if "createArtifact" in query:
            sequence = {"id": "s", "latestArtifact": None}
            made = {"id": "a", "state": "PENDING", "artifactSequence": sequence}
            return {"createArtifact": {"artifact": made}}
        return {}

    def _stream(self, name: str, sent: dict[str, Any]) -> None:
        run = self.runs[name]
        for file, part in (sent.get("files") or {}).items():
            for i, line in enumerate(part["content"]):
                if file == HISTORY:
                    run["history"][part["offset"] + i] = line
                elif file == SUMMARY:
                    run["summary"] = json.loads(line)
        if sent.get("complete"):
            run["exit_code"] = sent.get("exitcode")


_ENTITY = {"id": "e", "name": "me"}
_ARTIFACT = {
    **{"__typename": "Artifact", "id": "a", "versionIndex": 0, "artifactType": {"name": "report"}},
    **{"description": None, "metadata": "{}", "ttlDurationSeconds": -2, "ttlIsInherited": True},
    **{"tags": [], "historyStep": None, "state": "COMMITTED", "size": 1, "digest": "d"},
    **{"commitHash": "c", "fileCount": 1, "aliases": []},
    **{"createdAt": "2026-01-01T00:00:00Z", "updatedAt": None},
    "artifactSequence": {
        "__typename": "ArtifactSequence",
        "name": "report",
        "project": {"id": "p", "internalId": "1", "name": "p", "entity": {"name": "me"}},
    },
}


def _bucket(run: dict[str, Any]) -> dict[str, Any]:
    return {
        "id": f"bucket-{run['name']}",
        "name": run["name"],
        "displayName": run.get("displayName"),
        "description": "",
        "config": run.get("config") or "{}",
        "sweepName": None,
        "summaryMetrics": json.dumps(run["summary"]),
        "historyLineCount": len(run["history"]),
        "eventsLineCount": 0,
        "logLineCount": 0,
        "historyTail": json.dumps([line for _, line in sorted(run["history"].items())][-1:]),
        "eventsTail": "[]",
        "tags": run.get("tags") or [],
        "notes": "",
        "wandbConfig": json.dumps({"t": 1}),
        "project": {"id": "p", "name": run.get("project"), "entity": _ENTITY},
    }


@contextmanager
def wandb_server(trouble: int | None = None) -> Iterator[WandbServer]:
    """A server in threads of this process; its `url` is what WANDB_BASE_URL must be."""
    state = WandbServer(trouble)

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def log_message(self, *told: Any) -> None:
            """Not on the screen."""

        def reply(self) -> None:
            body = self.rfile.read(int(self.headers.get("content-length") or 0))
            if self.headers.get("content-encoding") == "gzip":
                body = gzip.decompress(body)
            status, document = state.answer(self.path, body)
            content = json.dumps(document).encode()
            self.send_response(status)
            self.send_header("content-type", "application/json")
            self.send_header("content-length", str(len(content)))
            if status == 429:
                self.send_header("retry-after", "1")
            self.end_headers()
            self.wfile.write(content)

        do_GET = do_POST = do_PUT = reply

    class Server(ThreadingHTTPServer):
        daemon_threads = True

        def handle_error(self, *of: Any) -> None:
            """W&B drops its connections when it ends."""

    server = Server(("127.0.0.1", 0), Handler)
    state.url = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True)
    thread.start()
    try:
        yield state
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
