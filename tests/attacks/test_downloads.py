"""Servers that lead a download into the local network, to files, or never end."""

import gzip
import resource
import shutil
import subprocess
import time
from pathlib import Path

import pytest

from epic100.base.errors import EpicError
from epic100.download.fetch import fetch
from epic100.download.transfer import get, is_public
from support.fault_server import serving, status

HERE = ["127.0.0.1"]


@pytest.fixture
def server(server, monkeypatch):
    monkeypatch.setattr("epic100.download.fetch.TRIES", 2)
    monkeypatch.setattr("epic100.download.fetch.STALL_SECONDS", 1)
    monkeypatch.setattr("epic100.download.fetch.MAX_GIB", 0.001)
    return server


def endless(piece: bytes, begin: bytes = b""):
    """Return a fault: send `begin`, then `piece` again and again."""

    def fault(handler, content, start):
        handler.wfile.write(begin)
        while not handler.server.closing.is_set():
            handler.wfile.write(piece)

    return fault


def redirect(target: str):
    return status(302, Location=target)


def bring(url, folder):
    """Fetch a URL from a host that may be private, and return the content."""
    fetch(url, folder / "a", None, private_hosts=HERE)
    return (folder / "a").read_bytes()


def refused(url, folder, words, hosts=HERE):
    """Check that a fetch ends with an error of these words, and makes no file."""
    with pytest.raises(EpicError, match=words):
        fetch(url, folder / "a", None, private_hosts=hosts)
    assert not (folder / "a").exists()


# They are private, of no use on the web, or wrap such an IPv4 address (NAT64, 6to4, Teredo).
PRIVATE = """
    127.0.0.1 0.0.0.0 10.1.2.3 192.168.1.1 169.254.169.254 100.64.0.1 224.0.0.1 255.255.255.255 ::1
    :: fe80::1%eth0 fd00::1 ff02::1 ::ffff:10.0.0.1 ::127.0.0.1 64:ff9b::7f00:1 64:ff9b:1::808:808
    2002:7f00:1:: 2002:a01:203::1 2001:0:808:808::1
"""
PUBLIC = "8.8.8.8 2a00:1450::1 ::ffff:8.8.8.8 64:ff9b::808:808 2002:808:808::1"


@pytest.mark.parametrize(
    "text, public",
    [*((text, False) for text in PRIVATE.split()), *((text, True) for text in PUBLIC.split())],
)
def test_a_private_or_useless_address_is_recognised_in_any_notation(text, public):
    assert is_public(text) is public


@pytest.mark.parametrize(
    "target",
    [
        "http://127.0.0.2:9/a",
        "https://2130706434/a",
        "https://0x7f.2/a",
        "https://0.0.0.0/a",
        "https://[::1]/a",
        "https://[::ffff:10.0.0.1]/a",
        "https://[64:ff9b::7f00:1]/a",
        "https://10.1.2.3/a",
        "https://169.254.169.254/latest/meta-data",
        "file:///etc/passwd",
        "ftp://8.8.8.8/a",
        "gopher://8.8.8.8/a",
        "http://a b/",
    ],
)
def test_a_redirect_out_of_the_web_is_not_followed(server, tmp_path, target):
    url = server.put("a", b"", redirect(target))
    words = r"leads to (the private address .*`videos: private_hosts:`|.*not followed: .*redirect)"
    refused(url, tmp_path, f"^{url}: {words}")
    assert len(server.asked) == 1


@pytest.fixture
def certificate(tmp_path):
    """A file with a key and a certificate for 127.0.0.1 that no authority signed."""
    if not shutil.which("openssl"):
        pytest.skip("no program openssl")
    path = tmp_path / "both.pem"
    words = (
        "req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -subj /CN=127.0.0.1 "
        f"-addext subjectAltName=IP:127.0.0.1 -keyout {path} -out {path}.certificate"
    )
    subprocess.run(["openssl", *words.split()], check=True, capture_output=True)
    path.write_text(path.read_text() + Path(f"{path}.certificate").read_text())
    return str(path)


def test_a_server_needs_a_trusted_certificate_and_must_not_lead_to_http(
    server, certificate, tmp_path, monkeypatch
):
    plain = server.put("a", b"content")
    with serving(certificate) as secure:
        url = secure.put("a", b"content").replace("http:", "https:")
        refused(url, tmp_path, "certificate")
        monkeypatch.setenv("CURL_CA_BUNDLE", certificate)
        assert bring(url, tmp_path) == b"content"
        (tmp_path / "a").unlink()
        secure.put("a", b"", redirect(plain))
        refused(url, tmp_path, 'not followed: .*"http" is disabled')
    assert not server.asked


@pytest.mark.parametrize("more", [{"Connection": "close"}, {"Content_Length": str(2**50)}])
def test_the_body_of_a_redirect_is_neither_unpacked_nor_waited_for(server, tmp_path, more):
    # 16 times 128 MiB are 2 GiB.
    packed = gzip.compress(bytes(2**27)) * 16

    def fault(handler, content, start):
        handler.send_response(302)
        handler.end_with({"Location": "/b", "Content_Encoding": "gzip", **more})
        endless(packed)(handler, content, start)

    url = server.put("a", b"", fault, fault)
    server.put("b", b"content")
    kib_before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    begun = time.monotonic()
    # Whether the redirect is followed is the library's choice.
    try:
        bring(url, tmp_path)
    except EpicError as error:
        assert "the body of a redirect" in str(error)
    assert time.monotonic() - begun < 20
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - kib_before < 200_000


@pytest.mark.parametrize(
    "fault",
    [
        pytest.param(endless(b"HTTP/1.1 100 Continue\r\n\r\n"), id="interim responses"),
        pytest.param(endless(b"A: b\r\n", begin=b"HTTP/1.1 200 OK\r\n"), id="header lines"),
    ],
)
def test_response_headers_that_do_not_end_are_given_up(server, tmp_path, fault):
    url = server.put("a", b"", fault, fault)
    words = "(Too (large|many) response headers|too slow).*given up after 2 attempts"
    refused(url, tmp_path, words)


def with_length(text: str):
    """Return a fault: send headers with this Content-Length, whatever the body has."""
    return status(200, sends=True, Content_Length=text)


@pytest.mark.parametrize(
    "fault, words",
    [
        pytest.param(
            endless(bytes(65536), begin=b"HTTP/1.1 200 OK\r\n\r\n"),
            r"longer than 0\.001 GiB",
            id="no length",
        ),
        # A body with one of these lengths is refused before a byte of it is read.
        pytest.param(with_length("9" * 15), r"longer than 0\.001 GiB", id="15 digits"),
        pytest.param(with_length("9" * 5000), r"longer than 0\.001 GiB", id="5000 digits"),
        pytest.param(with_length("-1"), "Invalid Content-Length", id="-1"),
        pytest.param(with_length("0x10"), "Invalid Content-Length", id="0x10"),
        pytest.param(with_length("1_0"), "Invalid Content-Length", id="1_0"),
    ],
)
def test_a_body_that_does_not_end_is_given_up_at_the_limit(server, tmp_path, fault, words):
    url = server.put("a", b"content", fault, fault)
    refused(url, tmp_path, words)
    assert (tmp_path / "a.part").stat().st_size == 0


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "[::1]", "10.1.2.3", "0x7f.1"])
def test_a_private_address_is_asked_only_where_the_config_names_its_host(server, tmp_path, host):
    url = server.put("a", b"content").replace("127.0.0.1", host)
    words = "leads to the private address .*`videos: private_hosts:`"
    refused(url, tmp_path, words, hosts=["data.bris.ac.uk"])
    assert not server.asked


def test_behind_a_proxy_the_proxy_is_asked_and_its_own_address_may_be_private(
    server, tmp_path, monkeypatch
):
    proxy = server.put("", b"").rstrip("/")
    monkeypatch.setenv("http_proxy", proxy)
    server.files["http://videos.example/a"] = (b"content", [])
    fetch("http://videos.example/a", tmp_path / "a", None)
    assert (tmp_path / "a").read_bytes() == b"content"


def test_a_password_of_netrc_is_not_sent(server, tmp_path, monkeypatch):
    netrc = tmp_path / ".netrc"
    netrc.write_text("default login me password secret\n")
    netrc.chmod(0o600)
    monkeypatch.setenv("NETRC", str(netrc))
    monkeypatch.setenv("HOME", str(tmp_path))
    server.put("b", b"content")
    assert bring(server.put("a", b"", redirect("/b")), tmp_path) == b"content"
    assert server.passwords == [None, None]


def test_an_error_of_a_callback_ends_a_transfer(server):
    def full(piece):
        raise OSError(28, "No space left on device")

    with pytest.raises(OSError, match="No space left"):
        get(server.put("a", b"content"), full, private_hosts=HERE)
