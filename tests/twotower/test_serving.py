"""`twotower serve` and `twotower keys` from a terminal."""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import subprocess
import sys
import urllib.request
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
from typer.testing import CliRunner

pytest.importorskip("fastapi", reason="needs the extra serve")

from towers.errors import InputError
from twotower.cli import app

ROOT = Path(__file__).parents[2]


def run(*arguments: object) -> Any:
    return CliRunner().invoke(app, list(map(str, arguments)))


def test_keys_are_made_listed_and_ended(tmp_path: Path) -> None:
    file = tmp_path / "keys.json"
    key = run("keys", "add", "the shop", "--role", "writer", "--file", file).stdout.strip()
    assert re.fullmatch(r"tt_[0-9a-f]{8}_[\w-]{43}", key)
    (told,) = json.loads(run("keys", "list", "--file", file, "--json").stdout)["keys"]
    assert (told["name"], told["role"], told["revoked"]) == ("the shop", "writer", None)
    assert told.keys() == {"id", "name", "role", "created", "revoked"}
    assert run("keys", "revoke", told["id"], "--file", file).exit_code == 0
    assert json.loads(run("keys", "list", "--file", file, "--json").stdout)["keys"][0]["revoked"]
    wrong = run("keys", "add", "x", "--role", "raeder", "--file", file)
    assert str(wrong.exception).startswith("a key has no role 'raeder' (did you mean 'reader'?)")


def test_it_listens_to_others_only_with_keys(tiny_run: Any, tmp_path: Path) -> None:
    where = ("--model", tiny_run.model_folder, "--index", tiny_run.index_folder, "--catalog", tiny_run.items)
    refused = run("serve", *where, "--host", "0.0.0.0")
    assert isinstance(refused.exception, InputError)
    assert "twotower keys add NAME --role admin" in str(refused.exception)
    empty = run("serve", *where, "--host", "0.0.0.0", "--keys", tmp_path / "none.json")
    assert "holds no key that can be used" in str(empty.exception)


def test_it_answers_and_ends_in_peace(tiny_run: Any, tmp_path: Path) -> None:
    where = ["--model", tiny_run.model_folder, "--index", tiny_run.index_folder, "--catalog", tiny_run.items]
    where += ["--interactions", tiny_run.events, "--store", tmp_path / "store.sqlite", "--port", 0, "--half-life", 30]
    command = [sys.executable, "-m", "twotower", "serve", *map(str, where)]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "TWOTOWER_CACHE": str(tmp_path / "cache")}
    with subprocess.Popen(command, cwd=ROOT, stderr=subprocess.PIPE, text=True, env=environment) as process:
        assert process.stderr is not None
        try:
            said = ""
            while '"started"' not in said:
                line = process.stderr.readline()
                assert line, said
                said += line
            address = re.search(r"40 items at (http://127\.0\.0\.1:\d+);", said)
            assert address is not None, said
            with urllib.request.urlopen(f"{address[1]}/readyz", timeout=10) as answer:
                assert answer.read() == b"ready"
            body = json.dumps({"user": 7, "k": 3}).encode()
            request = urllib.request.Request(f"{address[1]}/v1/recommend", body, {"Content-Type": "application/json"})
            with urllib.request.urlopen(request, timeout=30) as answer:
                assert len(json.load(answer)["items"]) == 3
            with socket.create_connection((urlsplit(address[1]).hostname, urlsplit(address[1]).port)) as rude:
                rude.sendall(b"what is no HTTP\r\n\r\n")
                assert rude.recv(12) == b"HTTP/1.1 400"
            process.send_signal(signal.SIGTERM)
            told = [json.loads(line) for line in process.stderr]
            assert [one["event"] for one in told if one["event"] != "answered"] == [
                "Invalid HTTP request received.",
                "stopped",
            ]
        finally:
            process.kill()
    assert process.returncode == 0 or process.returncode == -signal.SIGTERM
