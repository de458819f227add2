"""The gateway does what its OpenAPI document says, and no request makes it fail."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from support.gateway import ROOT, Gateway, basic
from support.servers import KINDS

pytestmark = pytest.mark.servers

#: What schemathesis may not conclude, and why.
SETTINGS = ROOT / "tests/python/openapi"


@pytest.fixture(scope="module")
def gateway() -> Iterator[Gateway]:
    # One server: the HTTP side is the same in front of every one.
    with KINDS["prosody"]() as server:
        app = {
            "backend": server.backend("myapp.localhost"),
            "secret": "s3cret",
            "credentials": ["Bearer openapi"],
            "bounce_wait_ms": 0,
            "iq_timeout_seconds": 2,
        }
        with Gateway([app]) as running:
            yield running.wait_ready()


def test_the_document_is_served_and_names_what_is_there(gateway: Gateway) -> None:
    answer = gateway.request("GET", "/openapi.json")
    assert (answer.status, answer.headers["Content-Type"]) == (200, "application/json")
    document = answer.json()
    assert document["openapi"].startswith("3.1")
    for path, operations in document["paths"].items():
        if "{" in path:
            continue
        for method in operations:
            found = gateway.request(method.upper(), path, b"" if method == "post" else None)
            assert str(found.status) in operations[method]["responses"], (method, path)
            assert found.status != 404, (method, path)


@pytest.mark.parametrize(
    ("method", "path"),
    [
        *((method, path) for method in ("PUT", "DELETE", "PATCH") for path in ("/rest", "/rest/echo", "/rest/ping/x")),
        *(("GET", f"/appxmpp/v1/{call}") for call in ("message", "presence", "invite", "get_presence")),
        ("GET", "/rest/echo"),
        *(("POST", path) for path in ("/healthz", "/readyz", "/openapi.json")),
    ],
)
def test_a_method_that_is_not_documented_is_refused(gateway: Gateway, method: str, path: str) -> None:
    headers = {"Host": "myapp.localhost", "Authorization": basic("myapp.localhost", "s3cret")}
    answer = gateway.request(method, path, b"", headers)
    assert answer.status == 405
    assert "GET" in answer.headers["Allow"] or "POST" in answer.headers["Allow"]
    assert method not in answer.headers["Allow"]


def test_schemathesis_finds_nothing(gateway: Gateway, tmp_path: Path) -> None:
    document = tmp_path / "openapi.json"
    document.write_text(json.dumps(gateway.request("GET", "/openapi.json").json()))
    for path in SETTINGS.glob("*.*"):
        shutil.copy(path, tmp_path)
    run = subprocess.run(
        [
            *(sys.executable, "-m", "schemathesis.cli", "run", str(document)),
            *("--url", f"http://127.0.0.1:{gateway.port}"),
            *("--phases", "examples,coverage,fuzzing", "--max-examples", "10"),
            *("--header", "Authorization: Bearer openapi", "--header", "Host: myapp.localhost"),
            *("--seed", "20", "--generation-database", "none", "--request-timeout", "20", "--max-time", "60"),
        ],
        capture_output=True,
        text=True,
        cwd=tmp_path,
        env={**os.environ, "NO_COLOR": "1"},
        timeout=150,
        check=False,
    )
    assert run.returncode == 0, run.stdout[-8000:] + run.stderr[-2000:]
    assert gateway.is_ready()
