"""HTTP with checked redirects: a server must not send us to an unsafe address."""

import ipaddress
import socket
from urllib.parse import urljoin, urlsplit

import requests

from epic100.base.errors import EpicError
from epic100.base.names import URL_WORDS, is_url

AGENT = "epic100-workflow (EPIC-KITCHENS-100 action recognition)"


class CarefulSession(requests.Session):
    """A session that raises EpicError for an unsafe redirect.

    Unsafe is http after https, another scheme, or a private address that is not the host of the
    URL that is requested.

    Args:
        url: The URL that will be requested.
    """

    def __init__(self, url: str) -> None:
        super().__init__()
        self.headers.update({"User-Agent": AGENT, "Accept-Encoding": "identity"})
        self._first = url

    def get_redirect_target(self, resp: requests.Response) -> str | None:
        """Return where `resp` redirects to, after a check; requests calls this per redirect."""
        target = super().get_redirect_target(resp)
        if target is not None:
            check_redirect(self._first, resp.url, urljoin(resp.url, target))
        return target


def check_redirect(first: str, before: str, target: str) -> None:
    """Check that a redirect may be followed.

    Args:
        first: The URL that was requested first.
        before: The URL that answers with the redirect.
        target: Where it leads, as an absolute URL.

    Raises:
        EpicError: It must not be followed.
    """
    host = urlsplit(target).hostname
    if not is_url(target.partition("#")[0]) or host is None:
        why = f"which is no address to fetch from; expected {URL_WORDS}"
    elif urlsplit(before).scheme == "https" and urlsplit(target).scheme == "http":
        why = "which is not encrypted"
    elif host != urlsplit(first).hostname and (private := _private(host)):
        why = f"which is the private address {private}"
    else:
        return
    raise EpicError(
        f"{first}: its server leads to {target[:200]!r}, {why}; not followed; if that is right, "
        "put that url into the sheet"
    )


def _private(host: str) -> str:
    """Return the first address of `host` that is not public, or ""."""
    try:
        found = {str(entry[4][0]) for entry in socket.getaddrinfo(host, None)}
    except (OSError, UnicodeError):  # a proxy may resolve it; without a proxy the request fails
        return ""
    addresses = [ipaddress.ip_address(text.partition("%")[0]) for text in sorted(found)]
    mapped = [getattr(address, "ipv4_mapped", None) or address for address in addresses]
    return next((str(a) for a in mapped if not a.is_global or a.is_multicast), "")
