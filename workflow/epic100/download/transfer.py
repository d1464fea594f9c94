"""One GET over HTTP by libcurl, which drops what is slow, too long, or leads out of the web.

pycurl is imported where a transfer begins, since the rules and other jobs import this module.
"""

import ipaddress
import os
import socket
from collections.abc import Callable, Iterable
from contextlib import suppress
from typing import Any
from urllib.parse import urlsplit
from urllib.request import getproxies, proxy_bypass

from epic100.base.errors import EpicError

AGENT = "epic100-workflow (EPIC-KITCHENS-100 action recognition)"
LEAST_RATE = 1024  # A connection that brings fewer bytes per second is dropped.
MOST_BESIDE = 1 << 20  # Bodies of redirects and errors have at most so many bytes.
# Other programs take the file of certificate authorities from these variables, too.
AUTHORITIES = ("CURL_CA_BUNDLE", "REQUESTS_CA_BUNDLE", "SSL_CERT_FILE")
# Addresses of these IPv6 networks hold an IPv4 address, which so many bits follow. The networks are
# compatible and mapped (RFC 4291), NAT64 (RFC 6052), 6to4 (RFC 3056).
IPV4_INSIDE = {"::/96": 0, "::ffff:0:0/96": 0, "64:ff9b::/96": 0, "2002::/16": 80}
LOCAL_NAT64 = "64:ff9b:1::/48"


class TransferError(Exception):
    """A transfer failed.

    Attributes:
        status: The server's answer, such as 503; 0 if there is none.
        wait: Seconds after which the server wants to be asked again.
    """

    def __init__(self, reason: str, status: int = 0, wait: float = 0.0):
        super().__init__(reason)
        self.status, self.wait = status, wait


class NoRangeError(Exception):
    """The server does not send the bytes from `start` on alone."""


class _Enough(Exception):
    """The body has begun, and no more was wanted."""


class TooLongError(EpicError):
    """The body is longer than what is taken."""


def get(
    url: str,
    take: Callable[[bytes], object] | None,
    *,
    start: int = 0,
    private_hosts: Iterable[str] = (),
    stall_seconds: float = 60.0,
    max_gib: float = 0.0,
    watch: Callable[[int, int], object] = lambda total, done: None,
) -> None:
    """Get what is at a URL, through redirects, within the web.

    Args:
        url: An http(s) URL.
        take: Called with each piece of the body. None: the head is enough.
        start: The first byte that is wanted. If the file ends there, nothing comes.
        private_hosts: Hosts that may be asked at a private address.
        stall_seconds: Whole seconds in which a connection may bring less than `LEAST_RATE`.
        max_gib: The longest body; 0: no limit.
        watch: Called once a second at least, as soon as the body has begun: with its bytes, or 0 if
            nobody said how many there are, and those that came.

    Raises:
        EpicError: It leads to a private address or out of the web, or is too long (TooLongError).
        NoRangeError: The server does not go on from `start`.
        TransferError: The transfer failed for another reason.
        Exception: What `take` or `watch` raises, which ends the transfer.
    """
    import pycurl

    calls = _Callbacks(take, watch, private_hosts)
    options = _options(url, start, stall_seconds, max_gib) | {
        pycurl.XFERINFOFUNCTION: calls.safely(calls.progress),
        pycurl.WRITEFUNCTION: calls.safely(calls.piece),
    }
    if not options[pycurl.PROXY]:
        # A proxy itself decides which addresses are asked, and its own may be private.
        options[pycurl.OPENSOCKETFUNCTION] = calls.opened
    curl = pycurl.Curl()
    for option, value in options.items():
        curl.setopt(option, value)
    code, message = 0, ""
    try:
        curl.perform()
    except pycurl.error as error:
        code, message = error.args
    if calls.raised:
        if isinstance(calls.raised[0], _Enough):
            return
        raise calls.raised[0]
    status, last_url = curl.getinfo(pycurl.RESPONSE_CODE), curl.getinfo(pycurl.EFFECTIVE_URL)[:200]
    if code == pycurl.E_COULDNT_CONNECT and calls.private:
        raise EpicError(
            f"{url}: leads to the private address {calls.private[0]}, by {last_url!r}; expected a "
            "server of the web; if that is right, add "
            f"{urlsplit(last_url).hostname} to `videos: private_hosts:`"
        )
    if code in (pycurl.E_UNSUPPORTED_PROTOCOL, pycurl.E_URL_MALFORMAT):
        raise EpicError(f"{url}: leads to {last_url!r}, which is not followed: {message}")
    if code == pycurl.E_FILESIZE_EXCEEDED:
        raise TooLongError(f"{url}: longer than {max_gib:g} GiB, which is the most that is taken")
    if code == pycurl.E_RANGE_ERROR:
        raise NoRangeError
    if code or status not in ((206, 416) if start else (200,)):
        reason = f"HTTP {status}" if code in (0, pycurl.E_HTTP_RETURNED_ERROR) else message
        raise TransferError(reason, status, curl.getinfo(pycurl.RETRY_AFTER))


class _Callbacks:
    """What libcurl calls during a transfer.

    Attributes:
        raised: What they raised, which pycurl would only print; the first one ended the transfer.
        private: Private addresses that were not asked.
    """

    def __init__(
        self,
        take: Callable[[bytes], object] | None,
        watch: Callable[[int, int], object],
        private_hosts: Iterable[str],
    ):
        self.take, self.watch, self.private_hosts = take, watch, private_hosts
        self.raised, self.private = list[BaseException](), list[str]()
        self._taken = 0

    def safely(self, action: Callable[..., object]) -> Callable[..., int | None]:
        """Keep what a callback raises, and end the transfer."""

        def call(*arguments: Any) -> int | None:
            try:
                action(*arguments)
            except BaseException as error:
                self.raised.append(error)
                return -1
            return None

        return call

    def piece(self, data: bytes) -> None:
        """Take a piece of the body."""
        self._taken += len(data)
        if self.take is None:
            raise _Enough
        self.take(data)

    def progress(self, total: int, done: int, *_: int) -> None:
        """Watch what has come; bytes that no piece had are bodies of redirects and errors."""
        if done - self._taken > MOST_BESIDE:
            raise TransferError("the body of a redirect or of an error does not end")
        if self._taken:
            self.watch(total, done)

    def opened(self, purpose: int, address: Any) -> socket.socket | int:
        """Open a socket, unless its address is private and not allowed."""
        import pycurl

        if is_public(address.addr[0]) or _is_one_of(self.private_hosts, address.addr[0]):
            return socket.socket(address.family, address.socktype, address.protocol)
        self.private.append(address.addr[0])
        return pycurl.SOCKET_BAD


def _options(url: str, start: int, stall_seconds: float, max_gib: float) -> dict[int, Any]:
    """The options of libcurl for a GET, but for its callbacks."""
    import certifi
    import pycurl

    scheme, host = urlsplit(url).scheme, urlsplit(url).hostname or ""
    protocols = pycurl.PROTO_HTTP | pycurl.PROTO_HTTPS
    bundles = [os.environ[name] for name in AUTHORITIES if os.environ.get(name)]
    return {
        pycurl.URL: url,
        pycurl.PROTOCOLS: protocols,
        pycurl.REDIR_PROTOCOLS: pycurl.PROTO_HTTPS if scheme == "https" else protocols,
        pycurl.FOLLOWLOCATION: True,
        pycurl.FAILONERROR: True,
        pycurl.PROXY: "" if proxy_bypass(host) else getproxies().get(scheme, ""),
        pycurl.CAINFO: (bundles or [certifi.where()])[0],
        pycurl.USERAGENT: AGENT,
        pycurl.RESUME_FROM_LARGE: start,
        pycurl.MAXFILESIZE_LARGE: int(max_gib * 2**30),
        pycurl.CONNECTTIMEOUT_MS: int(1000 * stall_seconds),
        pycurl.LOW_SPEED_LIMIT: LEAST_RATE,
        pycurl.LOW_SPEED_TIME: max(1, int(stall_seconds)),
        pycurl.NOSIGNAL: True,
        pycurl.NOPROGRESS: False,
    }


def is_public(text: str) -> bool:
    """Whether the address of a socket is one of the web, also where it holds another one."""
    address = ipaddress.ip_address(text.partition("%")[0])
    if isinstance(address, ipaddress.IPv6Address):
        for network, bits in IPV4_INSIDE.items():
            if address in ipaddress.IPv6Network(network):
                return is_public(str(ipaddress.IPv4Address(int(address) >> bits & 0xFFFFFFFF)))
        if address in ipaddress.IPv6Network(LOCAL_NAT64):
            return False
    return address.is_global and not address.is_multicast


def _is_one_of(hosts: Iterable[str], address: str) -> bool:
    """Whether it is an address of one of the hosts."""
    for host in hosts:
        with suppress(OSError, UnicodeError):
            if address in (entry[4][0] for entry in socket.getaddrinfo(host, None)):
                return True
    return False
