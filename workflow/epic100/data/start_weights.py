"""Find the weights that a training starts from in the config, download and check them.

Nothing here needs torch or MMEngine, so that Snakemake can import it quickly.
"""

import ast
import logging
import os
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlsplit

from epic100.base.disk import Checksum, digest, read_text, reading
from epic100.base.errors import EpicError, is_url
from epic100.data.fetch import fetch, rejection
from epic100.settings.section import AUTO
from epic100.settings.training import TrainSettings

log = logging.getLogger(__name__)

# The model zoo has the start of the SHA-256 in its file names, e.g. x3d_s-623825a0.pth.
HASH = re.compile(r"-([0-9a-f]{8,64})\.[^.]+$")
# `torch.save` writes a zip file. Before torch 1.6 it wrote a plain pickle.
BEGINNINGS = (b"PK", b"\x80")
# A server must answer a probe within this time.
PROBE_SECONDS = 20


@dataclass(frozen=True)
class StartWeights:
    """The file with the weights that a training starts from.

    Attributes:
        source: The path or URL in the config.
        path: The path of the file; for a URL, the path at which the rule `weights` saves it.
        sha256: The digest in the config, or None.
    """

    source: str
    path: str
    sha256: str | None = None

    @property
    def is_url(self) -> bool:
        """Whether the source is a URL, so that the file is downloaded."""
        return "://" in self.source

    @property
    def needs_download(self) -> bool:
        """Whether the file must still be downloaded.

        Anything that is at the path already stays, even a broken link.
        """
        return self.is_url and not os.path.lexists(self.path)


def start_weights(section: TrainSettings, config: str | os.PathLike) -> StartWeights | None:
    """Find the weights that a training starts from.

    Args:
        section: The complete `train:` section. With `load_from: auto`, the MMEngine config names
            the weights.
        config: Path of the MMEngine config.

    Returns:
        The weights; None for a random start.

    Raises:
        EpicError: A random start with a schedule for fine-tuning, or an MMEngine config whose
            `load_from` cannot be read.
    """
    if section.from_scratch:
        return None
    source = read_value(config, "load_from") if section.load_from == AUTO else section.load_from
    if source is None:
        if read_value(config, "from_scratch"):
            return None
        raise EpicError(
            f"config: {config} is a schedule for fine-tuning, but there are no weights to start "
            "from (`train: load_from:`); set a checkpoint file or URL; take `config: "
            "config/x3d_s_epic_from_scratch.py`, whose 300 epochs are made for a random start, or "
            "set `train: from_scratch: true`, as the demo does, if you mean it"
        )
    path = kept_at(source) if "://" in source else source
    return StartWeights(source, path, section.load_from_sha256)


def kept_at(url: str) -> str:
    """Return the path at which the file of a URL is saved: `weights/{host}/{path}`.

    Two URLs never get the same path.

    Raises:
        EpicError: The URL is not http(s) or names no file.
    """
    # A text that is no URL may be one that cannot be split into parts.
    url_parts = urlsplit(url if is_url(url) else "")
    names = [
        quote(name, safe="") for name in (url_parts.netloc, *url_parts.path.split("/")) if name
    ]
    if len(names) < 2 or {".", ".."} & set(names):
        raise EpicError(
            f"config: `train: load_from:` is {url!r}; expected a file, or the http(s) URL of one"
        )
    if url_parts.query:
        names[-1] += quote(f"?{url_parts.query}", safe="")
    return "/".join(("weights", *names))


def read_value(config: str | os.PathLike, name: str) -> Any:
    """Read a literal value of an MMEngine config or its bases, without running the config.

    Args:
        config: Path of the config.
        name: Name of the variable, e.g. `load_from`.

    Returns:
        The value; None if no file assigns it.

    Raises:
        EpicError: The file is missing or not Python, or only running it would give the value.
    """
    path = Path(config)
    assigned = _assigned_values(path)
    bases: str | list[str] = []
    try:
        if name in assigned:
            return ast.literal_eval(assigned[name])
        if "_base_" in assigned:
            bases = ast.literal_eval(assigned["_base_"])
    except ValueError as error:
        raise EpicError(
            f"{path}: `{name}` is not a plain value, so it cannot be read without running the "
            "config; set `train: load_from:` in the workflow's config"
        ) from error
    for base in [bases] if isinstance(bases, str) else bases:
        # A base such as `mmaction::...` lies in an installed package and is not read.
        value = None if "::" in base else read_value(path.parent / base, name)
        if value is not None:
            return value
    return None


def _assigned_values(path: Path) -> dict[str, ast.expr]:
    """Parse a Python file, and return the expression that it assigns to each name.

    Raises:
        EpicError: The file is missing or not Python.
    """
    try:
        body = ast.parse(read_text(path)).body
    except (OSError, ValueError, SyntaxError) as error:
        raise EpicError(
            f"{path}: this MMEngine config cannot be read ({error}); see `train: config:`"
        ) from error
    assigned: dict[str, ast.expr] = {}
    for node in body:
        if isinstance(node, ast.Assign):
            # A later assignment to the same name wins, as in Python.
            for target in node.targets:
                if isinstance(target, ast.Name):
                    assigned[target.id] = node.value
    return assigned


def fetch_weights(weights: StartWeights) -> None:
    """Download the weights to `weights.path` and check them.

    Raises:
        EpicError: The download fails (`fetch`), or the file is wrong (`check_weights`).
    """
    log.info("fetching %s to %s", weights.source, weights.path)
    checksum = Checksum("sha256", weights.sha256) if weights.sha256 else None
    fetch(
        weights.source,
        Path(weights.path),
        checksum,
        seal=lambda part: check_weights(weights, part),
    )


def check_weights(weights: StartWeights, file: str | os.PathLike | None = None) -> None:
    """Check a file of weights by the SHA-256 of the config, or else by the hash in its name.

    Args:
        weights: The expected weights.
        file: The file, if it does not have its final path yet.

    Raises:
        EpicError: The file is missing, has another digest (the message names both), or is not a
            checkpoint.
    """
    path = Path(file or weights.path)
    if not path.is_file():
        raise EpicError(
            f"{path}: no such weights; `train: load_from:` takes a checkpoint file, a URL, or "
            "`auto` for those that the MMEngine config names"
        )
    with reading(path) as opened:
        beginning = opened.read(64)
    page_note = " (it is a web page)" if beginning.lstrip().startswith(b"<") else ""
    # The digest, or its beginning, that the file must have.
    expected, source = weights.sha256, "`train: load_from_sha256:`"
    in_name = HASH.search(Path(weights.path).name)
    if not expected and in_name:
        expected, source = in_name[1], "the hash in its name"
    if expected:
        sha256 = digest(path, "sha256").value
        if not sha256.startswith(expected):
            raise EpicError(
                f"{weights.path}: sha256 is {sha256}{page_note}; expected {expected}, {source}; "
                f"fetch {weights.source} again, or, if you trust this file, set `train: "
                "load_from_sha256:` to its digest"
            )
    if not beginning.startswith(BEGINNINGS):
        raise EpicError(
            f"{weights.path}: not a checkpoint{page_note}; expected a file of torch.save; remove "
            "it and fetch it again"
        )


def probe(weights: StartWeights) -> None:
    """Check that the server of the weights answers, without a download.

    So a missing network is reported before the jobs that take long.

    Raises:
        EpicError: The server does not answer, or rejects the request; the message says where to put
            the file by hand.
    """
    if reason := rejection(weights.source, PROBE_SECONDS):
        raise EpicError(
            f"{weights.source}: the start weights cannot be fetched here ({reason}); fetch the "
            f"file where there is a network and put it at {weights.path}, or set `train: "
            "load_from:` to a file"
        )
