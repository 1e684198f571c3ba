"""The README's commands and snippets work as they stand."""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text("utf-8")


def blocks(language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", README, re.DOTALL)


@pytest.fixture(scope="module")
def shop(tiny_bert, tmp_path_factory):
    """A folder with the files that the README speaks of, small, and where its commands run."""
    folder = tmp_path_factory.mktemp("readme")
    films = [(f"i{n}", f"Film number {n}", 1950 + n, "Drama" if n % 2 else "Comedy") for n in range(40)]
    rows = "\n".join(f"{item},{title},{year},{genre}" for item, title, year, genre in films)
    (folder / "items.csv").write_text(f"item_id,title,year,genres\n{rows}\n")
    events = [
        (f"u{u}", f"i{(u + 2 * n) % 40}", 1_700_000_000 + n, 1 + (u + n) % 5) for u in range(60) for n in range(9)
    ]
    rows = "\n".join(",".join(map(str, event)) for event in events)
    (folder / "interactions.csv").write_text(f"user_id,item_id,timestamp,rating\n{rows}\n")
    import polars as pl

    for name in ("items", "interactions"):
        pl.read_csv(folder / f"{name}.csv").write_parquet(folder / f"{name}.parquet")
    pl.DataFrame({"user_id": ["u1", "u2"], "item_id": ["i4", "i3"]}).write_parquet(folder / "theirs.parquet")
    (folder / "recipe.toml").write_text(
        f'[text]\nsource = "{tiny_bert}"\n'
        "[item]\ndimension = 16\nhidden = 16\n"
        "[train]\nepochs = 3\ntext_epochs = 1\nanchors = 2\n"
    )
    return folder


def environment(tmp: Path) -> dict[str, str]:
    binaries = Path(sys.executable).parent
    path = f"{binaries}{os.pathsep}{os.environ['PATH']}"
    return {**os.environ, "PATH": path, "TWOTOWER_CACHE": str(tmp / "cache"), "PYTHONPATH": str(ROOT)}


def test_the_python_example_runs(shop):
    example, _ = blocks("python")
    done = subprocess.run(
        [sys.executable, "-c", example], cwd=shop, env=environment(shop), capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 0, done.stderr
    assert (shop / "runs/m1/index/CURRENT").is_file()


def test_the_commands_run(shop):
    commands = [
        line
        for block in blocks("sh")
        for line in block.replace("\\\n", " ").splitlines()
        if line.startswith("twotower ") and not line.startswith(("twotower demo", "twotower bench", "twotower serve"))
    ]
    assert len(commands) >= 5
    for command in commands:
        done = subprocess.run(
            command.split("  #")[0],
            shell=True,
            cwd=shop,
            env=environment(shop),
            capture_output=True,
            text=True,
            timeout=300,
        )
        ill = command.startswith("twotower doctor") and done.returncode == 1  # so small a model is not healthy
        assert done.returncode == 0 or ill, f"{command}\n{done.stderr}"
        assert "Traceback" not in done.stderr


def test_the_service_answers(shop):
    lines = [line for block in blocks("sh") for line in block.replace("\\\n", " ").splitlines()]
    (serve,) = (line for line in lines if line.startswith("twotower serve"))
    asked = [line for line in lines if line.startswith("curl ")]
    assert len(asked) == 3
    _, client = blocks("python")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    with subprocess.Popen(
        f"exec {serve} --port {port}", shell=True, cwd=shop, env=environment(shop), stderr=subprocess.PIPE, text=True
    ) as service:
        try:
            for _ in range(300):
                ready = subprocess.run(["curl", "-sf", f"localhost:{port}/readyz"], capture_output=True)
                if ready.returncode == 0 or service.poll() is not None:
                    break
                time.sleep(0.2)
            answers = [
                json.loads(subprocess.run(line.replace("8000", str(port)), shell=True, capture_output=True).stdout)
                for line in asked
            ]
            command = [sys.executable, "-c", client.replace("8000", str(port))]
            told = subprocess.run(command, capture_output=True, text=True, check=True).stdout
        finally:
            service.send_signal(signal.SIGTERM)
    found, reason, kept = answers
    assert len(found["items"]) == 5
    assert reason["sentence"].startswith("Film number 18")
    assert kept["new"] == 1
    assert told.startswith("Film number ")


def test_make_knows_every_target_that_is_named():
    for target in re.findall(r"^make (\S+)", "\n".join(blocks("sh")), re.MULTILINE):
        done = subprocess.run(["make", "-n", target, "NAME=x"], cwd=ROOT, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr


def test_the_file_tree_names_files_that_are_there():
    (tree,) = blocks("text")
    room = ""
    named = set()
    for line in tree.splitlines():
        if match := re.match(r"(\w+(?:/\w+)?)/", line):
            room = match[1]
        named |= {Path(room) / name for name in re.findall(r"\b(\w+\.py)\b", line)}
    assert named
    assert not [str(path) for path in named if not (ROOT / path).is_file()]
    rooms = ("towers", "indexing", "training", "training/measuring", "serving")
    there = {p.relative_to(ROOT) for room in rooms for p in (ROOT / room).glob("*.py") if p.name != "__init__.py"}
    assert not sorted(map(str, there - named)), "modules that the tree does not name"


@pytest.mark.slow
def test_make_demo(tmp_path):
    done = subprocess.run(["make", "demo"], cwd=ROOT, env=environment(tmp_path), capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "beats every baseline" in done.stdout
