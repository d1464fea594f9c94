"""Servers that lead a download into the local network, to disk files, or on for ever."""

from dataclasses import replace

import pytest

from epic100.base.errors import EpicError
from epic100.download.fetch import FetchSettings, check_redirect, fetch
from support.fault_server import status

HASTY = FetchSettings(
    tries=2,
    stall_seconds=2,
    pause_seconds=0.01,
    max_pause_seconds=0.01,
)
HERE = {"private_hosts": ["127.0.0.1"], "settings": HASTY}
SHEET = "https://data.bris.ac.uk/P01_01.MP4"


def endless(handler, content, start):
    """A body without a length that does not end."""
    handler.head(content, start, -1, Connection="close")
    while not handler.server.closing.is_set():
        handler.wfile.write(bytes(65536))


@pytest.mark.parametrize(
    "target, why",
    [
        ("http://data.bris.ac.uk/a", "not encrypted"),
        ("file:///etc/passwd", "no address to fetch from"),
        ("ftp://8.8.8.8/a", "no address to fetch from"),
        ("https://user:pw@8.8.8.8/a", "no address to fetch from"),
        ("https://127.0.0.1/a", "the private address 127.0.0.1"),
        ("https://localhost:631/a", "the private address"),
        ("https://2130706433/a", "the private address 127.0.0.1"),
        ("https://0x7f.1/a", "the private address 127.0.0.1"),
        ("https://0.0.0.0/a", "the private address 0.0.0.0"),
        ("https://[::1]/a", "the private address ::1"),
        ("https://[::ffff:10.0.0.1]/a", "the private address 10.0.0.1"),
        ("https://10.1.2.3/a", "the private address 10.1.2.3"),
        ("https://192.168.1.1/a", "the private address 192.168.1.1"),
        ("https://169.254.169.254/latest/meta-data", "the private address 169.254.169.254"),
        ("https://224.0.0.1/a", "the private address 224.0.0.1"),
    ],
)
def test_a_redirect_out_of_the_web_is_not_followed(target, why):
    with pytest.raises(EpicError, match=f"^{SHEET}: its server leads to .*{why}"):
        check_redirect(SHEET, SHEET, target)


@pytest.mark.parametrize(
    "first, target",
    [
        (SHEET, "https://data.bris.ac.uk/other"),
        ("http://10.1.2.3/a", "http://10.1.2.3:8080/b"),
        ("http://8.8.8.8/a", "https://8.8.4.4/a?b=c%20d"),
    ],
)
def test_a_redirect_in_the_web_or_on_the_sheet_s_own_host_is_followed(first, target):
    check_redirect(first, first, target)


def test_a_real_server_s_redirect_to_this_machine_asks_nothing_of_it(server, tmp_path):
    secret = server.put("secret", b"secret").replace("127.0.0.1", "localhost")
    url = server.put("a", b"", status(302, Location=secret))
    with pytest.raises(EpicError, match="its server leads to .*private address"):
        fetch(url, tmp_path / "a", None, **HERE)
    assert [path for path, _ in server.asked] == ["/a"]


def test_a_body_that_does_not_end_is_given_up_at_the_limit(server, tmp_path):
    url = server.put("a", b"x", endless)
    words = r"goes on and on, at most 0\.001 GiB are taken"
    with pytest.raises(EpicError, match=words):
        fetch(url, tmp_path / "a", None, **HERE | {"settings": replace(HASTY, max_gib=0.001)})
    assert (tmp_path / "a.part").stat().st_size == 0


def test_a_length_beyond_the_limit_is_refused_before_a_byte_is_read(server, tmp_path):
    url = server.put("a", b"content", status(200, sends=True, Content_Length="9" * 15))
    with pytest.raises(EpicError, match="is said to have 931323 GiB, at most 64 GiB are taken"):
        fetch(url, tmp_path / "a", None, **HERE)
    assert not (tmp_path / "a").exists()


@pytest.mark.parametrize("length", ["9" * 5000, "-1", "0x10", "1_0"])
def test_a_length_that_is_no_number_is_not_believed(server, tmp_path, length):
    url = server.put("a", b"content", status(200, sends=True, Content_Length=length))
    fetch(url, tmp_path / "a", None, **HERE)
    assert (tmp_path / "a").read_bytes() == b"content"


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "[::1]", "10.1.2.3", "0x7f.1"])
def test_a_private_address_is_asked_only_where_the_config_names_its_host(server, tmp_path, host):
    url = server.put("a", b"content").replace("127.0.0.1", host)
    unnamed = HERE | {"private_hosts": ["data.bris.ac.uk"]}
    with pytest.raises(EpicError, match="/a: its url .* leads to the private address .*_hosts"):
        fetch(url, tmp_path / "a", None, **unnamed)
    assert not server.asked


def test_a_password_of_netrc_is_not_sent(server, tmp_path, monkeypatch):
    netrc = tmp_path / "netrc"
    netrc.write_text("default login me password secret\n")
    netrc.chmod(0o600)
    monkeypatch.setenv("NETRC", str(netrc))
    url = server.put("a", b"", status(302, Location="/b", Connection="close"))
    server.put("b", b"content")
    fetch(url, tmp_path / "a", None, **HERE)
    assert (tmp_path / "a").read_bytes() == b"content" and server.passwords == [None, None]
