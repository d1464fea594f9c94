"""Get a file over HTTP by libcurl; slow servers, long files and private addresses are refused.

pycurl is imported only when a transfer begins, since the rules and other jobs import this module.
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

MIN_BYTES_PER_SECOND = 1024  # A connection that brings fewer bytes per second is dropped.
MAX_DISCARDED_BYTES = 1 << 20  # Bodies of redirects and errors have at most this many bytes.
# These environment variables may name a file of certificate authorities, as for other programs.
CA_BUNDLE_VARIABLES = ("CURL_CA_BUNDLE", "REQUESTS_CA_BUNDLE", "SSL_CERT_FILE")
# Addresses of these IPv6 networks contain an IPv4 address, with this number of bits after it. The
# networks are compatible and mapped (RFC 4291), NAT64 (RFC 6052), 6to4 (RFC 3056).
IPV4_INSIDE = {"::/96": 0, "::ffff:0:0/96": 0, "64:ff9b::/96": 0, "2002::/16": 80}


class TransferError(Exception):
    """A failed transfer, which may be tried again.

    Attributes:
        status: The HTTP status, such as 503; 0 if the server did not answer.
        wait: Seconds until the server may be asked again (Retry-After); 0 if it does not say.
    """

    def __init__(self, reason: str, status: int = 0, wait: float = 0.0):
        """Make the error; its text is `reason`."""
        super().__init__(reason)
        self.status, self.wait = status, wait


class NoRangeError(Exception):
    """A server does not resume a download: it sends other bytes than those from `start` on."""


class _Enough(Exception):
    """The end of a transfer whose body is not wanted, when the body begins."""


class TooLongError(EpicError):
    """A body is longer than the limit `max_gib`."""


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
    """Get the body of a URL by HTTP, following redirects but not to private addresses.

    Args:
        url: An http(s) URL.
        take: Called with each piece of the body. None: the transfer ends when the body begins.
        start: The first byte to get. If the file ends there, `take` is not called.
        private_hosts: Hosts whose address may be private.
        stall_seconds: Whole seconds in which a connection may bring less than
            `MIN_BYTES_PER_SECOND`.
        max_gib: The longest body that is accepted; 0: no limit.
        watch: Called at least once a second, as soon as the body has begun, with two numbers: the
            bytes of the whole body (0 if the server did not say), and those received.

    Raises:
        EpicError: The URL leads to a private address or to another protocol, or the body is too
            long (TooLongError).
        NoRangeError: The server does not go on from `start`.
        TransferError: The transfer failed for another reason.
        Exception: Any error of `take` or `watch`, which ends the transfer.
    """
    import pycurl

    callbacks = _Callbacks(take, watch, private_hosts)
    options = _options(url, start, stall_seconds, max_gib) | {
        pycurl.XFERINFOFUNCTION: callbacks.safely(callbacks.progress),
        pycurl.WRITEFUNCTION: callbacks.safely(callbacks.piece),
    }
    if not options[pycurl.PROXY]:
        # A proxy itself decides which addresses are asked, and its own may be private.
        options[pycurl.OPENSOCKETFUNCTION] = callbacks.open_socket
    curl = pycurl.Curl()
    for option, value in options.items():
        curl.setopt(option, value)
    code, message = 0, ""
    try:
        curl.perform()
    except pycurl.error as error:
        code, message = error.args
    if callbacks.raised:
        if isinstance(callbacks.raised[0], _Enough):
            return
        raise callbacks.raised[0]
    last_url = curl.getinfo(pycurl.EFFECTIVE_URL)[:200]
    if code == pycurl.E_COULDNT_CONNECT and callbacks.private:
        raise EpicError(
            f"{url}: leads to the private address {callbacks.private[0]}, by {last_url!r}; "
            "expected a server of the web; if that is right, add "
            f"{urlsplit(last_url).hostname} to `videos: private_hosts:`"
        )
    if code == pycurl.E_FILESIZE_EXCEEDED:
        raise TooLongError(f"{url}: longer than {max_gib:g} GiB, which is the most that is taken")
    _raise_if_failed(curl, code, message, url=url, is_resumed=start > 0)


def _raise_if_failed(curl: Any, code: int, message: str, *, url: str, is_resumed: bool) -> None:
    """Raise the error of a transfer by the code of libcurl or the status of the server.

    Args:
        curl: The `pycurl.Curl` that made the transfer.
        code: The code of its error, 0 if it had none.
        message: libcurl's text about the error.
        url: The URL that was asked for.
        is_resumed: Whether the transfer was to begin within the file.

    Raises:
        EpicError: The URL leads to another protocol.
        NoRangeError: The server does not go on from the byte that was asked for.
        TransferError: The transfer failed for another reason.
    """
    import pycurl

    status = curl.getinfo(pycurl.RESPONSE_CODE)
    if code in (pycurl.E_UNSUPPORTED_PROTOCOL, pycurl.E_URL_MALFORMAT):
        raise EpicError(
            f"{url}: leads to {curl.getinfo(pycurl.EFFECTIVE_URL)[:200]!r}, which is not followed: "
            f"{message}"
        )
    if code == pycurl.E_RANGE_ERROR:
        raise NoRangeError
    # A resumed download gets 206 (partial content), or 416 if no byte is left.
    if code or status not in ((206, 416) if is_resumed else (200,)):
        reason = f"HTTP {status}" if code in (0, pycurl.E_HTTP_RETURNED_ERROR) else message
        raise TransferError(reason, status, curl.getinfo(pycurl.RETRY_AFTER))


class _Callbacks:
    """The functions that libcurl calls during a transfer.

    Attributes:
        raised: Errors of these functions. The first one ended the transfer; pycurl would only print
            it.
        private: Private addresses that were refused.
    """

    def __init__(
        self,
        take: Callable[[bytes], object] | None,
        watch: Callable[[int, int], object],
        private_hosts: Iterable[str],
    ):
        """Make the callbacks of one transfer; the arguments are those of `get`."""
        self.take, self.watch, self.private_hosts = take, watch, private_hosts
        self.raised, self.private = list[BaseException](), list[str]()
        self._taken = 0

    def safely(self, action: Callable[..., object]) -> Callable[..., int | None]:
        """Wrap a function so that its error is added to `raised`, and ends the transfer."""

        def safe_action(*arguments: Any) -> int | None:
            """Call the function; return None, or -1 after an error."""
            try:
                action(*arguments)
            except BaseException as error:
                self.raised.append(error)
                return -1  # This tells libcurl to end the transfer.
            return None

        return safe_action

    def piece(self, data: bytes) -> None:
        """Give a piece of the body to `take`; end the transfer if no body is wanted.

        Raises:
            _Enough: There is no `take`, since the caller only asked whether a body comes.
        """
        self._taken += len(data)
        if self.take is None:
            raise _Enough
        self.take(data)

    def progress(self, total: int, received: int, *_: int) -> None:
        """Report the progress to `watch`, once the body has begun.

        libcurl calls this with the bytes to receive and received, and with those to send and sent,
        which a download does not need. Bytes that were received but not given to `piece` are bodies
        of redirects and errors.
        """
        if received - self._taken > MAX_DISCARDED_BYTES:
            raise TransferError("the body of a redirect or of an error does not end")
        if self._taken:
            self.watch(total, received)

    def open_socket(self, purpose: int, address: Any) -> socket.socket | int:
        """Open a socket, or refuse a private address of a host that is not allowed."""
        import pycurl

        ip_address, *_ = address.addr
        if is_public(ip_address) or _is_one_of(self.private_hosts, ip_address):
            return socket.socket(address.family, address.socktype, address.protocol)
        self.private.append(ip_address)
        return pycurl.SOCKET_BAD


def _options(url: str, start: int, stall_seconds: float, max_gib: float) -> dict[int, Any]:
    """Return libcurl's options for a GET, without the callbacks; `get` has the arguments."""
    import certifi
    import pycurl

    scheme, host = urlsplit(url).scheme, urlsplit(url).hostname or ""
    protocols = pycurl.PROTO_HTTP | pycurl.PROTO_HTTPS
    named_bundles = (os.environ[name] for name in CA_BUNDLE_VARIABLES if os.environ.get(name))
    return {
        pycurl.URL: url,
        pycurl.PROTOCOLS: protocols,
        # A redirect must not lead from https to http, where the content could be replaced.
        pycurl.REDIR_PROTOCOLS: pycurl.PROTO_HTTPS if scheme == "https" else protocols,
        pycurl.FOLLOWLOCATION: True,
        pycurl.FAILONERROR: True,
        pycurl.PROXY: "" if proxy_bypass(host) else getproxies().get(scheme, ""),
        pycurl.CAINFO: next(named_bundles, certifi.where()),
        pycurl.USERAGENT: "epic100-workflow (EPIC-KITCHENS-100 action recognition)",
        pycurl.RESUME_FROM_LARGE: start,
        pycurl.MAXFILESIZE_LARGE: int(max_gib * 2**30),
        pycurl.CONNECTTIMEOUT_MS: int(1000 * stall_seconds),
        pycurl.LOW_SPEED_LIMIT: MIN_BYTES_PER_SECOND,
        pycurl.LOW_SPEED_TIME: max(1, int(stall_seconds)),
        pycurl.NOSIGNAL: True,
        pycurl.NOPROGRESS: False,  # With False, XFERINFOFUNCTION is called.
    }


def is_public(text: str) -> bool:
    """Whether an IP address is public, as is the IPv4 address that an IPv6 address contains."""
    address_text, _, _ = text.partition("%")  # The name of a network interface may follow.
    address = ipaddress.ip_address(address_text)
    if isinstance(address, ipaddress.IPv6Address):
        for network, bits_after in IPV4_INSIDE.items():
            if address in ipaddress.IPv6Network(network):
                # An IPv4 address has 32 bits.
                ipv4_number = int(address) >> bits_after & 0xFFFFFFFF
                return is_public(str(ipaddress.IPv4Address(ipv4_number)))
        # Addresses of local NAT64 (RFC 8215) may lead to private ones.
        if address in ipaddress.IPv6Network("64:ff9b:1::/48"):
            return False
    return address.is_global and not address.is_multicast


def _is_one_of(hosts: Iterable[str], address: str) -> bool:
    """Whether an IP address is that of one of some hosts."""
    for host in hosts:
        # A name that cannot be looked up has no address.
        with suppress(OSError, UnicodeError):
            # The last item of an entry is a socket address, which begins with the IP address.
            if address in (ip_address for *_, (ip_address, *_) in socket.getaddrinfo(host, None)):
                return True
    return False
