"""Keys: shown once, kept as hashes, each allowing what its role does and no more."""

from __future__ import annotations

import json
import stat
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("fastapi", reason="needs the extra serve")

from serving.web.keys import Keys, Role
from towers.errors import ArtefactError, InputError


def bearer(key: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {key}"}


def test_a_key_is_found_again_and_its_secret_is_nowhere(tmp_path: Path) -> None:
    keys = Keys(tmp_path / "keys.json")
    key, other = keys.add("the shop", Role.reader), keys.add("the editor", Role.writer)
    found = keys.find(key)
    assert found is not None
    assert (found.name, found.role) == ("the shop", Role.reader)
    assert keys.find(other).role is Role.writer  # type: ignore[union-attr]
    text = (tmp_path / "keys.json").read_text()
    assert key.split("_", 2)[2] not in text
    assert stat.S_IMODE((tmp_path / "keys.json").stat().st_mode) == 0o600
    salts = {one["salt"] for one in json.loads(text)}
    assert len(salts) == 2


@pytest.mark.parametrize(
    "given", ["", "tt", "tt_", "tt__", "tt_{id}_", "tt_{id}_wrong", "xx_{id}_{secret}", "{secret}"]
)
def test_nothing_else_is_a_key(tmp_path: Path, given: str) -> None:
    keys = Keys(tmp_path / "keys.json")
    _, name, secret = keys.add("the shop", Role.reader).split("_", 2)
    assert keys.find(given.format(id=name, secret=secret)) is None
    assert keys.find(given.format(id="", secret="")) is None


def test_a_revoked_key_ends_at_once_for_a_service_that_runs(tmp_path: Path) -> None:
    running, terminal = Keys(tmp_path / "keys.json"), Keys(tmp_path / "keys.json")
    key = terminal.add("the shop", Role.admin)
    assert running.find(key) is not None
    terminal.revoke(running.find(key).id)  # type: ignore[union-attr]
    assert running.find(key) is None
    assert running.all()[0].revoked is not None
    with pytest.raises(InputError, match="was revoked already"):
        terminal.revoke(running.all()[0].id)
    with pytest.raises(InputError, match="there is no key 'x'"):
        terminal.revoke("x")


def test_a_file_that_is_taken_away_takes_its_keys_along(tmp_path: Path) -> None:
    keys = Keys(tmp_path / "keys.json")
    key = keys.add("the shop", Role.admin)
    (tmp_path / "keys.json").unlink()
    assert keys.find(key) is None
    assert keys.all() == []


def test_a_damaged_file_lets_nobody_in(tmp_path: Path) -> None:
    keys = Keys(tmp_path / "keys.json")
    key = keys.add("the shop", Role.admin)
    whole = (tmp_path / "keys.json").read_text()
    for text in ("[{}]", whole.replace('"salt": "', '"salt": "g'), whole.replace('"hash": "', '"hash": "é')):
        (tmp_path / "keys.json").write_text(text, "utf-8")
        with pytest.raises(ArtefactError, match="holds no keys"):
            keys.find(key)


@pytest.fixture
def three(tmp_path: Path) -> tuple[Keys, dict[Role, str]]:
    keys = Keys(tmp_path / "keys.json")
    return keys, {role: keys.add(role, role) for role in Role}


def test_without_a_key_there_are_the_page_and_the_health_and_no_more(client: Any, three: Any) -> None:
    service = client(keys=three[0])
    assert {service.get(path).status_code for path in ("/", "/page/page.js", "/healthz", "/readyz")} == {200}
    for headers in ({}, bearer("tt_a_b"), {"Authorization": "Basic abc"}, bearer(three[1][Role.reader][:-1])):
        for method, path in [("POST", "/v1/recommend"), ("GET", "/v1/items"), ("GET", "/metrics"), ("GET", "/v1/none")]:
            answer = service.request(method, path, headers=headers)
            assert answer.status_code == 401
            assert answer.headers["WWW-Authenticate"] == "Bearer"


def test_a_reader_may_ask(client: Any, three: Any) -> None:
    keys, given = three
    service = client(keys=keys)
    answer = service.post("/v1/recommend", json={"history": ["m01"]}, headers=bearer(given[Role.reader]))
    assert answer.status_code == 200
    assert service.get("/metrics", headers=bearer(given[Role.reader])).status_code == 200
    assert service.post("/v1/questionnaire", json={}, headers=bearer(given[Role.reader])).status_code in (200, 503)
    assert service.post("/v1/questionnaire", json={}).status_code == 401


def test_a_service_whose_file_of_keys_is_damaged_says_so_and_goes_on_when_it_is_mended(
    client: Any, three: Any, tmp_path: Path
) -> None:
    keys, given = three
    service, file = client(keys=keys), tmp_path / "keys.json"
    whole = file.read_text()

    def asked() -> Any:
        return service.get("/v1/about", headers=bearer(given[Role.reader]))

    assert asked().status_code == 200
    for text in ("", whole[:100], "[{}]"):
        file.write_text(text)
        answer = asked()
        assert answer.status_code == 503
        assert answer.json() == {"error": "the file of keys cannot be read, so nobody is let in until it is mended"}
        assert int(answer.headers["Retry-After"]) >= 5
        assert service.get("/healthz").status_code == 200
    file.write_text(whole)
    assert asked().status_code == 200
