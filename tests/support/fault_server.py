"""A real HTTP server on 127.0.0.1 that misbehaves as it is asked to, request by request."""

import socket
import ssl
import struct
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

Fault = Callable[["Handler", bytes, int], None]


class Server(ThreadingHTTPServer):
    """Serves the files that were `put`; each request of a file meets its next fault, then none.

    Attributes:
        files: Contents and remaining faults by path.
        asked: (path, Range header) of each request, in order.
        passwords: The Authorization header of each request.
        begun: The time of each request.
        most_at_once: The largest number of requests at the same time.
        closing: Set when the server is about to end.
    """

    daemon_threads = True

    def __init__(self):
        super().__init__(("127.0.0.1", 0), Handler)
        self.files: dict[str, tuple[bytes, list[Fault]]] = {}
        self.asked: list[tuple[str, str | None]] = []
        self.passwords: list[str | None] = []
        self.begun: list[float] = []
        self.at_once = self.most_at_once = 0
        self.lock = threading.Lock()
        self.closing = threading.Event()

    def put(self, name: str, content: bytes, *faults: Fault) -> str:
        """Serve a content under a name, with these faults one after the other; return the URL."""
        self.files[f"/{name}"] = (content, list(faults))
        return f"http://127.0.0.1:{self.server_port}/{name}"

    def ranges(self, name: str) -> list[str | None]:
        """List the Range headers of the requests of a file."""
        return [asked for path, asked in self.asked if path == f"/{name}"]

    def handle_error(self, request, client_address):
        pass  # Clients may hang up.


class Handler(BaseHTTPRequestHandler):
    """Answers a request as the next fault of its file says."""

    protocol_version = "HTTP/1.1"

    def log_message(self, format, *args):
        pass

    def do_GET(self):
        server = self.server
        with server.lock:
            server.asked.append((self.path, self.headers.get("Range")))
            server.passwords.append(self.headers.get("Authorization"))
            server.begun.append(time.monotonic())
            server.at_once += 1
            server.most_at_once = max(server.most_at_once, server.at_once)
            content, faults = server.files.get(self.path, (None, []))
            fault = faults.pop(0) if faults else honest
        self.close_connection = True
        try:
            if content is None:
                status(404)(self, b"", 0)
            else:
                fault(self, content, self.start_of(content))
        finally:
            with server.lock:
                server.at_once -= 1

    def start_of(self, content: bytes) -> int:
        """Return the first byte that is asked for; 0 if If-Range names another version."""
        byte_range = self.headers.get("Range", "bytes=0-")
        if self.headers.get("If-Range", tag(content)) != tag(content):
            byte_range = "bytes=0-"
        return int(byte_range.removeprefix("bytes=").rstrip("-"))

    def head(self, content: bytes, start: int, length: int | None = None, **more: str) -> None:
        """Send the status line and headers of the content from `start` on.

        `length` is the promised length: None means the true one, and -1 none. `more` are further
        headers.
        """
        if start >= len(content) > 0:
            self.send_response(416)
            self.send_header("Content-Range", f"bytes */{len(content)}")
            self.send_header("Content-Length", "0")
            self.end_headers()
            raise BrokenPipeError
        self.send_response(206 if start else 200)
        if start:
            self.send_header("Content-Range", f"bytes {start}-{len(content) - 1}/{len(content)}")
        if length is None:
            length = len(content) - start
        if length >= 0:
            self.send_header("Content-Length", str(length))
        for name, value in {"ETag": tag(content), "Accept-Ranges": "bytes", **more}.items():
            self.send_header(name.replace("_", "-"), value)
        self.end_headers()


def tag(content: bytes) -> str:
    """The ETag of a content."""
    return f'"{hash(content) & 0xFFFFFFFF:x}"'


def sending(after: int | None = None, extra: int = 0, then=lambda handler: None) -> Fault:
    """Make a fault that sends all or `after` bytes from the start on, calls `then`, and hangs up.

    The promised length is that of the content and `extra` bytes more, or, below 0, fewer.
    """

    def fault(handler, content, start):
        handler.head(content, start, len(content) - start + extra)
        handler.wfile.write(content[start:][:after])
        handler.wfile.flush()
        then(handler)

    return fault


honest, cut = sending(), sending


def promise(extra: int) -> Fault:
    """Send all, but promise `extra` bytes more."""
    return sending(extra=extra)


def ignoring_range(handler: Handler, content: bytes, start: int) -> None:
    """Send all from the first byte on, whatever is asked for."""
    honest(handler, content, 0)


def reset(after: int) -> Fault:
    """Send `after` bytes, then reset the TCP connection."""

    def hang_up(handler):
        # The bytes that were sent must arrive before the reset does.
        time.sleep(0.05)
        handler.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        handler.connection.close()

    return sending(after, then=hang_up)


def stall(after: int) -> Fault:
    """Send `after` bytes, then nothing, and keep the line open."""
    return sending(after, then=lambda handler: handler.server.closing.wait(20))


def drip(handler: Handler, content: bytes, start: int) -> None:
    """Send a byte now and then, so that no read ever times out."""
    handler.head(content, start)
    for place in range(start, len(content)):
        handler.wfile.write(content[place : place + 1])
        handler.wfile.flush()
        if handler.server.closing.wait(0.05):
            return


def without_length(handler: Handler, content: bytes, start: int) -> None:
    """Send all without a promised length."""
    handler.head(content, start, -1, Connection="close")
    handler.wfile.write(content[start:])


def wrong_bytes(handler: Handler, content: bytes, start: int) -> None:
    """Send as many bytes as asked for, all of them wrong."""
    honest(handler, bytes(byte ^ 1 for byte in content), start)


def status(code: int, sends: bool = False, **headers: str) -> Fault:
    """Answer with this status to any request, with the content (`sends`) or without."""

    def fault(handler, content, start):
        body = content if sends else b""
        handler.send_response(code)
        for name, value in {"Content_Length": str(len(body)), **headers}.items():
            handler.send_header(name.replace("_", "-"), value)
        handler.end_headers()
        handler.wfile.write(body)

    return fault


@contextmanager
def serving(signed: str = "") -> Iterator[Server]:
    """Run a server during a block; `signed`: the file of its key and certificate, for TLS."""
    server = Server()
    if signed:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(signed)
        server.socket = context.wrap_socket(server.socket, server_side=True)
    thread = threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True)
    thread.start()
    try:
        yield server
    finally:
        server.closing.set()
        server.shutdown()
        server.server_close()
        thread.join(5)
