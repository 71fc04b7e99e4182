"""Unpacking of bodies: what was packed comes out, within its bounds, at a cost that grows with the body."""

import gzip
import random
import zlib
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from api.door.gate import GZIP_WINDOW_BYTES, gunzip
from api.errors import Refused


def noise(size: int) -> bytes:
    """Return bytes that do not pack, so that a member spans several windows."""
    return random.Random(size).randbytes(size)


@given(st.lists(st.tuples(st.binary(max_size=60), st.integers(0, 40)), min_size=1, max_size=8))
def test_members_and_their_padding_are_unpacked_in_order(members: list[tuple[bytes, int]]) -> None:
    packed = b"".join(gzip.compress(text) + bytes(zeros) for text, zeros in members)
    assert gunzip(packed) == b"".join(text for text, _ in members) == gzip.decompress(packed)


@pytest.mark.parametrize(
    "size", [0, 1, GZIP_WINDOW_BYTES - 40, GZIP_WINDOW_BYTES - 23, GZIP_WINDOW_BYTES, 5 * GZIP_WINDOW_BYTES]
)
def test_members_end_anywhere_in_a_window(size: int) -> None:
    text = noise(size)
    assert gunzip(gzip.compress(text) + bytes(2 * GZIP_WINDOW_BYTES) + gzip.compress(b"end")) == text + b"end"


def test_a_body_cut_short_or_followed_by_something_else_is_refused() -> None:
    packed = gzip.compress(noise(3 * GZIP_WINDOW_BYTES))
    for broken in (
        packed[:-1],
        packed[: GZIP_WINDOW_BYTES * 2],
        packed[:5],
        packed + b"more",
        b"\0" + packed,
    ):
        with pytest.raises(Refused) as refused:
            gunzip(broken)
        assert (refused.value.status, refused.value.code) == (400, "bad_gzip")


def test_a_bomb_is_refused_wherever_it_lies() -> None:
    bomb = gzip.compress(bytes(100_000))
    assert len(gunzip(bomb, 100_000)) == 100_000
    for packed in (bomb, gzip.compress(b"a") * 3 + bomb):
        with pytest.raises(Refused) as refused:
            gunzip(packed, 99_999)
        assert (refused.value.status, refused.value.code) == (413, "too_large")


def test_many_members_cost_no_more_than_their_bytes(monkeypatch: pytest.MonkeyPatch) -> None:
    """A body of 800,000 empty members held a thread for minutes: the whole rest was copied for each."""
    fed = 0
    of_zlib: Callable[..., Any] = zlib.decompressobj

    class Counting:
        def __init__(self, wbits: int) -> None:
            self._member = of_zlib(wbits=wbits)

        def decompress(self, data: bytes, max_length: int) -> bytes:
            nonlocal fed
            fed += len(data)
            unpacked: bytes = self._member.decompress(data, max_length)
            return unpacked

        def __getattr__(self, name: str) -> Any:
            return getattr(self._member, name)

    monkeypatch.setattr(zlib, "decompressobj", Counting)
    members = 5_000
    assert gunzip(gzip.compress(b"") * members) == b""
    assert fed <= members * GZIP_WINDOW_BYTES
    assert members * GZIP_WINDOW_BYTES < len(gzip.compress(b"")) * members**2 // 2
