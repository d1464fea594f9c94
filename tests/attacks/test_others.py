"""Servers that mislead a download or never end, and folders that others share with a run."""

import os
import shutil
import stat
import subprocess
from pathlib import Path

import pytest

from epic100.base.atomic import atomic_path
from epic100.base.errors import EpicError
from epic100.cli.workflow import snakemake_command
from epic100.data.fetch import fetch
from epic100.slurm.site import read_partitions
from support.checkout import ROOT, epic100, said
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
def test_a_redirect_off_the_web_is_not_followed(server, tmp_path, target):
    with serving() as other:
        url = server.put("a", b"", status(302, Location=target.format(other.server_port)))
        rejected(url, tmp_path, f"^{url}: leads to .*not followed: ")
        assert len(server.asked) == 1
        assert not other.asked


@pytest.mark.skipif(not shutil.which("openssl"), reason="no program openssl")
def test_a_server_needs_a_certificate_and_stays_https(server, tmp_path, monkeypatch):
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
def test_endless_response_headers_are_given_up(server, tmp_path, answer):
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
def test_an_endless_body_ends_at_the_limit(server, tmp_path, answer, words):
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


def test_a_full_disk_ends_downloads_in_one_line(server, tmp_path, capfd):
    with largest_file(100_000):
        rejected(server.put("a", bytes(300_000)), tmp_path, r"a\.part: not written: .*make room")
    assert "Traceback" not in capfd.readouterr().err
    assert len(server.asked) == 1


# No user has this number.
ANOTHER_USER = 54321
as_root = pytest.mark.skipif(os.getuid() != 0, reason="only root makes files of another user")


@pytest.fixture
def victim(tmp_path):
    """A file elsewhere that must keep its text."""
    path = tmp_path / "home/thesis.txt"
    path.parent.mkdir()
    path.write_text("years of work")
    yield path
    assert path.read_text() == "years of work"


def test_a_link_does_not_lead_an_output_away(tmp_path, victim):
    table = tmp_path / "table.tsv"
    table.symlink_to(victim)
    with atomic_path(table) as temporary:
        temporary.write_text("output")
    assert not table.is_symlink() and table.read_text() == "output"


def test_the_umask_decides_who_reads_new_files(tmp_path):
    before = os.umask(0o027)
    with atomic_path(tmp_path / "a.txt") as temporary:
        temporary.write_text("x")
    os.umask(before)
    # 0o666 without the bits of 0o027.
    assert stat.S_IMODE((tmp_path / "a.txt").stat().st_mode) == 0o640


def uses_the_profile_here() -> bool:
    """Whether `epic100 run` in this folder takes the profile that is here."""
    return "profiles/default" in snakemake_command(["--configfile", "config/mine.yaml"])


PARTITIONS = "profiles/partitions.yaml"


@as_root
@pytest.mark.parametrize(
    "path, use",
    [
        ("profiles", uses_the_profile_here),
        ("profiles/default", uses_the_profile_here),
        ("config", uses_the_profile_here),
        ("config/mine.yaml", uses_the_profile_here),
        (PARTITIONS, lambda: read_partitions(PARTITIONS)),
        (PARTITIONS, lambda: read_partitions(os.path.abspath(PARTITIONS))),
    ],
)
def test_another_user_s_profile_or_config_is_rejected(tmp_path, monkeypatch, path, use):
    monkeypatch.chdir(tmp_path)
    files = {
        "profiles/default/config.yaml": "cores: 1\n",
        "config/mine.yaml": "cores: 1\n",
        PARTITIONS: (ROOT / PARTITIONS).read_text(),
    }
    for file, text in files.items():
        Path(file).parent.mkdir(parents=True, exist_ok=True)
        Path(file).write_text(text)
    assert use()
    os.chown(path, ANOTHER_USER, ANOTHER_USER)
    with pytest.raises(EpicError, match=f"{path}: user {ANOTHER_USER} can write it, and what is"):
        use()


@as_root
@pytest.mark.parametrize("command", [("run", "-n"), ("check",)])
def test_another_user_s_base_config_is_not_used(tmp_path, command):
    config = tmp_path / "config/config.yaml"
    config.parent.mkdir()
    config.write_text("run: theirs\n")
    os.chown(config, ANOTHER_USER, ANOTHER_USER)
    screen = said(epic100(*command, cwd=tmp_path, well=False))
    assert f"config/config.yaml: user {ANOTHER_USER} can write it" in screen
