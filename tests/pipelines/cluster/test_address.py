"""Addresses of clusters: which are this machine's, which are shown a token, which a submission asks."""

import pytest

from pipelines.cluster.address import brings_token, is_local
from pipelines.submit import address_of


@pytest.mark.parametrize("address", ["", "auto", "local", "127.0.0.1:6379", "http://127.0.0.1:8265", "localhost:6379"])
def test_this_machine_is_local(address):
    assert is_local(address)


@pytest.mark.parametrize("address", ["192.0.2.7:6379", "ray://head.example:10001", "http://head.example:8265"])
def test_another_machine_is_not(address):
    assert not is_local(address)


def test_a_token_is_shown_unasked_on_this_machine_only(monkeypatch, tmp_path):
    monkeypatch.delenv("RAY_AUTH_TOKEN", raising=False)
    monkeypatch.setenv("RAY_AUTH_TOKEN_PATH", str(tmp_path / "token"))
    assert brings_token("")  # Ray makes one
    assert not brings_token("127.0.0.1:6379")
    (tmp_path / "token").write_text("0" * 64)
    assert brings_token("127.0.0.1:6379")
    assert not brings_token("192.0.2.7:6379")
    (tmp_path / "token").unlink()
    monkeypatch.setenv("RAY_AUTH_TOKEN", "0" * 64)
    assert brings_token("localhost:6379")
    assert not brings_token("head.example:6379")


@pytest.mark.parametrize(
    ("options", "asked"),
    [
        ([], "http://10.0.0.5:8265"),
        (["--address", "http://127.0.0.1:8265", "--no-wait"], "http://127.0.0.1:8265"),
        (["--no-wait", "--address=http://127.0.0.1:1"], "http://127.0.0.1:1"),
        (["--no-wait", "--", "python", "mine.py", "--address", "127.0.0.1"], "http://10.0.0.5:8265"),
    ],
)
def test_the_address_that_a_submission_asks(options, asked, monkeypatch):
    monkeypatch.setenv("RAY_ADDRESS", "http://10.0.0.5:8265")
    assert address_of(options) == asked
    monkeypatch.delenv("RAY_ADDRESS")
    assert address_of([]) == "localhost"
