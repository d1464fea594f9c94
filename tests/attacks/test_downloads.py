"""Servers that lead a download to files, other protocols or passwords, or never end."""

import shutil
import subprocess

import pytest

from epic100.base.errors import EpicError
from epic100.data.fetch import fetch
from support.failing_server import serving, status
from support.this_process import largest_file


@pytest.fixture
def server(server, monkeypatch):
    monkeypatch.setattr("epic100.data.fetch.TRIES", 2)
    monkeypatch.setattr("epic100.data.fetch.STALL_SECONDS", 1)
    monkeypatch.setattr("epic100.data.fetch.MAX_GIB", 0.001)
    return server


def endless(piece: bytes, begin: bytes = b""):
    """Return an answer: send `begin`, then `piece` again and again."""

    def answer(handler, content, start):
        handler.wfile.write(begin)
        while not handler.server.closing.is_set():
            handler.wfile.write(piece)

    return answer


def rejected(url, folder, words):
    """Check that a fetch ends with an error of these words, and makes no file."""
    with pytest.raises(EpicError, match=words):
        fetch(url, folder / "a", None)
    assert not (folder / "a").exists()


@pytest.mark.parametrize(
    "target",
    ["file:///etc/passwd", "ftp://8.8.8.8/a", "http://a b/", "http://me:secret@localhost:{}/b"],
)
def test_a_redirect_out_of_the_web_or_with_a_password_is_not_followed(server, tmp_path, target):
    with serving() as other:
        url = server.put("a", b"", status(302, Location=target.format(other.server_port)))
        rejected(url, tmp_path, f"^{url}: leads to .*not followed: ")
        assert len(server.asked) == 1
        assert not other.asked


@pytest.mark.skipif(not shutil.which("openssl"), reason="no program openssl")
def test_a_server_needs_a_trusted_certificate_and_must_not_lead_to_http(
    server, tmp_path, monkeypatch
):
    certificate = f"{tmp_path}/both.pem"
    # No authority signs it. The key and the certificate are in one file.
    words = (
        "req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -subj /CN=127.0.0.1 "
        f"-addext subjectAltName=IP:127.0.0.1 -keyout {certificate}"
    )
    made = subprocess.run(["openssl", *words.split()], check=True, capture_output=True)
    with open(certificate, "ab") as file:
        file.write(made.stdout)
    plain = server.put("a", b"content")
    with serving(certificate) as secure:
        url = secure.put("a", b"content").replace("http:", "https:")
        rejected(url, tmp_path, "certificate")
        monkeypatch.setenv("CURL_CA_BUNDLE", certificate)
        fetch(url, tmp_path / "content", None)
        secure.put("a", b"", status(302, Location=plain))
        rejected(url, tmp_path, 'not followed: .*"http" is disabled')
    assert not server.asked


@pytest.mark.parametrize(
    "answer",
    [
        pytest.param(endless(b"HTTP/1.1 100 Continue\r\n\r\n"), id="interim responses"),
        pytest.param(endless(b"A: b\r\n", begin=b"HTTP/1.1 200 OK\r\n"), id="header lines"),
    ],
)
def test_response_headers_that_do_not_end_are_given_up(server, tmp_path, answer):
    url = server.put("a", b"", answer, answer)
    rejected(url, tmp_path, "(Too (large|many) response headers|too slow).*attempt 2 of 2")


@pytest.mark.parametrize(
    "answer, words",
    [
        pytest.param(
            endless(bytes(65536), begin=b"HTTP/1.1 200 OK\r\n\r\n"),
            r"longer than 0\.001 GiB",
            id="no length",
        ),
        # A body with one of these lengths is rejected before a byte of it is read.
        *(
            pytest.param(status(200, sends=True, Content_Length=text), words, id=text[:20])
            for text, words in (
                *(("9" * 15, "longer than"), ("9" * 5000, "longer than")),
                *(("-1", "Invalid Content-Length"), ("0x10", "Invalid Content-Length")),
            )
        ),
    ],
)
def test_a_body_that_does_not_end_is_given_up_at_the_limit(server, tmp_path, answer, words):
    url = server.put("a", b"content", answer, answer)
    # Without a limit, the body would fill the disk.
    with largest_file(10 << 20):
        rejected(url, tmp_path, words)
    assert (tmp_path / "a.part").stat().st_size == 0


def test_a_password_of_netrc_is_not_sent(server, tmp_path, monkeypatch):
    (tmp_path / ".netrc").write_text("default login me password secret\n")
    monkeypatch.setenv("HOME", str(tmp_path))
    server.put("b", b"content")
    fetch(server.put("a", b"", status(302, Location="/b")), tmp_path / "a", None)
    assert server.passwords == [None, None]


def test_a_full_disk_ends_a_download_in_one_line(server, tmp_path, capfd):
    with largest_file(100_000):
        rejected(server.put("a", bytes(300_000)), tmp_path, r"a\.part: not written: .*make room")
    assert "Traceback" not in capfd.readouterr().err
    assert len(server.asked) == 1
