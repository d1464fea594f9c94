"""What a container states of itself."""

import pytest

from epic100.video.containers import matroska_bytes
from support.tricky_videos import encode


def stated(data: bytes) -> int:
    return matroska_bytes(lambda place, count: data[place : place + count])


@pytest.fixture(scope="module", params=["mkv", "webm"])
def film(tmp_path_factory, request) -> bytes:
    codec = {"mkv": "libx264", "webm": "libvpx-vp9"}[request.param]
    path = tmp_path_factory.mktemp("film") / f"v.{request.param}"
    return encode(path, 10, codec=codec).read_bytes()


def test_matroska_states_its_length_also_once_it_is_cut(film):
    assert stated(film) == len(film) == stated(film[: len(film) // 2])


@pytest.mark.parametrize("place", [0, 3, 4])
def test_another_kind_of_file_states_none(film, place):
    assert stated(film[:place] + b"\0" + film[place + 1 :]) == 0
    assert stated(film[:place]) == 0
