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
    """Serves what was `put`; each request of a file meets the file's next fault, then none."""

    daemon_threads = True

    def __init__(self):
        super().__init__(("127.0.0.1", 0), Handler)
        self.files: dict[str, tuple[bytes, list[Fault]]] = {}
        # Each request adds its (path, Range), in order.
        self.asked: list[tuple[str, str | None]] = []
        self.passwords: list[str | None] = []
        self.begun: list[float] = []
        self.at_once = self.most_at_once = 0
        self.lock = threading.Lock()
        self.closing = threading.Event()

    def put(self, name: str, content: bytes, *faults: Fault) -> str:
        """Serve `content`; returns its URL."""
        self.files[f"/{name}"] = (content, list(faults))
        return f"http://127.0.0.1:{self.server_port}/{name}"

    def ranges(self, name: str) -> list[str | None]:
        return [asked for path, asked in self.asked if path == f"/{name}"]

    def handle_error(self, request, client_address):
        pass  # Clients may hang up.


class Handler(BaseHTTPRequestHandler):
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
                first_byte = self.headers.get("Range", "bytes=0-").removeprefix("bytes=")
                fault(self, content, int(first_byte.rstrip("-")))
        finally:
            with server.lock:
                server.at_once -= 1

    def head(self, content: bytes, start: int, length: int | None = None, **more: str) -> None:
        """Status line and headers of the content from `start` on."""
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
        self.end_with({"Accept-Ranges": "bytes", **more})

    def end_with(self, headers: dict[str, str]) -> None:
        """The last headers, with `_` for `-` in their names."""
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), value)
        self.end_headers()


def sending(after: int | None = None, extra: int = 0, then=lambda handler: None) -> Fault:
    """Send all or `after` bytes more, `then` do that, and hang up.

    `extra`: so many bytes more than there are are promised, or, below 0, fewer.
    """

    def fault(handler, content, start):
        handler.head(content, start, len(content) - start + extra)
        handler.wfile.write(content[start:][:after])
        handler.wfile.flush()
        then(handler)

    return fault


honest, cut = sending(), sending


def promise(extra: int) -> Fault:
    return sending(extra=extra)


def ignoring_range(handler: Handler, content: bytes, start: int) -> None:
    honest(handler, content, 0)


def reset(after: int) -> Fault:
    """As `cut`, with a TCP reset."""

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
    """A byte now and then, so that no read ever times out."""
    handler.head(content, start)
    for byte in range(start, len(content)):
        handler.wfile.write(content[byte : byte + 1])
        handler.wfile.flush()
        if handler.server.closing.wait(0.05):
            return


def without_length(handler: Handler, content: bytes, start: int) -> None:
    handler.head(content, start, -1, Connection="close")
    handler.wfile.write(content[start:])


def wrong_bytes(handler: Handler, content: bytes, start: int) -> None:
    honest(handler, bytes(byte ^ 1 for byte in content), start)


def status(code: int, sends: bool = False, **headers: str) -> Fault:
    """This answer to whatever is asked, with the content or without."""

    def fault(handler, content, start):
        handler.send_response(code)
        handler.end_with({"Content_Length": str(len(content) * sends), **headers})
        handler.wfile.write(content * sends)

    return fault


@contextmanager
def serving(signed: str = "") -> Iterator[Server]:
    """A running server, gone when the block is left; `signed`: its key and certificate, for TLS."""
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
