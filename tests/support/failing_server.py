"""An HTTP server on 127.0.0.1 that gives a wrong answer to chosen requests. No test is here."""

import socket
import ssl
import struct
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

# An answer gets the handler, the content, and the first byte that is asked for.
Answer = Callable[["Handler", bytes, int], None]


class Server(ThreadingHTTPServer):
    """An HTTP server of the files that were `put`.

    Each request of a file gets the file's next answer. After its last, the file is served.

    Attributes:
        files: The content and the answers that are left, by path.
        asked: The path and the header Range of each request, in order.
        passwords: The header Authorization of each request.
        begun: The time of each request, in seconds of `time.monotonic`.
        at_once: The requests that are being answered.
        max_at_once: The maximum of `at_once` so far.
        lock: Guards all of these, since each request has a thread.
        closing: Set at the end, so that answers that wait end too.
    """

    daemon_threads = True

    def __init__(self):
        """Listen on a free port."""
        super().__init__(("127.0.0.1", 0), Handler)
        self.files: dict[str, tuple[bytes, list[Answer]]] = {}
        self.asked: list[tuple[str, str | None]] = []
        self.passwords: list[str | None] = []
        self.begun: list[float] = []
        self.at_once = self.max_at_once = 0
        self.lock = threading.Lock()
        self.closing = threading.Event()

    def put(self, name: str, content: bytes, *answers: Answer) -> str:
        """Serve `content` as the file `name`, and return the URL."""
        self.files[f"/{name}"] = (content, list(answers))
        return f"http://127.0.0.1:{self.server_port}/{name}"

    def ranges(self, name: str) -> list[str | None]:
        """List the header Range of each request of a file."""
        return [asked for path, asked in self.asked if path == f"/{name}"]

    def handle_error(self, request, client_address):
        """Print nothing, since clients may hang up."""


class Handler(BaseHTTPRequestHandler):
    """Answers one request of `Server`."""

    protocol_version = "HTTP/1.1"

    def log_message(self, format, *args):
        """Print nothing."""

    def do_GET(self):
        """Note the request, and send the next answer of its file."""
        server = self.server
        with server.lock:
            server.asked.append((self.path, self.headers.get("Range")))
            server.passwords.append(self.headers.get("Authorization"))
            server.begun.append(time.monotonic())
            server.at_once += 1
            server.max_at_once = max(server.max_at_once, server.at_once)
            content, answers = server.files.get(self.path, (None, []))
            answer = answers.pop(0) if answers else honest
        self.close_connection = True
        try:
            if content is None:
                status(404)(self, b"", 0)
            else:
                first_byte = self.headers.get("Range", "bytes=0-").removeprefix("bytes=")
                answer(self, content, int(first_byte.rstrip("-")))
        finally:
            with server.lock:
                server.at_once -= 1

    def head(self, content: bytes, start: int, length: int | None = None, **more: str) -> None:
        """Send the status line and headers of the content from byte `start` on.

        Args:
            content: The complete content.
            start: The first byte that is sent.
            length: Content-Length; None means that of the content, and -1 means no such header.
            **more: Other headers, with `_` for `-` in their names.
        """
        if start >= len(content) > 0:
            self.send_response(416)
            self.send_header("Content-Range", f"bytes */{len(content)}")
            self.send_header("Content-Length", "0")
            self.end_headers()
            # This ends the answer: no content follows.
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
        """Send the last headers, with `_` for `-` in their names."""
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), value)
        self.end_headers()


def sending(
    after: int | None = None, extra: int = 0, then=lambda handler: None, **headers: str
) -> Answer:
    """Return an answer: send some of the content, and hang up.

    Args:
        after: The number of bytes that are sent; None means all.
        extra: The number of bytes that Content-Length has too many; below 0, too few.
        then: Called with the handler before the server hangs up.
        **headers: Other headers, with `_` for `-` in their names.
    """

    def answer(handler, content, start):
        handler.head(content, start, len(content) - start + extra, **headers)
        handler.wfile.write(content[start:][:after])
        handler.wfile.flush()
        then(handler)

    return answer


# By default, all of the content is sent.
honest = sending()
cut = sending


def promise(extra: int) -> Answer:
    """Return an answer: a Content-Length with `extra` bytes too many; below 0, too few."""
    return sending(extra=extra)


def ignoring_range(handler: Handler, content: bytes, start: int) -> None:
    """Send the content from its first byte, whatever range is asked for."""
    honest(handler, content, 0)


def reset(after: int) -> Answer:
    """Return an answer: send `after` bytes, and end the connection with a TCP reset."""

    def hang_up(handler):
        # The bytes that were sent must arrive before the reset does.
        time.sleep(0.05)
        # To linger for no second means to send a reset at the close.
        handler.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        handler.connection.close()

    return sending(after, then=hang_up)


def stall(after: int) -> Answer:
    """Return an answer: send `after` bytes, then nothing, and keep the connection open."""
    return sending(after, then=lambda handler: handler.server.closing.wait(20))


def drip(count: int) -> Answer:
    """Return an answer: send `count` bytes 20 times a second, so that no read ever times out."""

    def answer(handler, content, start):
        handler.head(content, start)
        for byte in range(start, len(content), count):
            handler.wfile.write(content[byte : byte + count])
            handler.wfile.flush()
            if handler.server.closing.wait(0.05):
                return

    return answer


def without_length(handler: Handler, content: bytes, start: int) -> None:
    """Send the content without Content-Length: the end of the connection is its end."""
    handler.head(content, start, -1, Connection="close")
    handler.wfile.write(content[start:])


def wrong_bytes(handler: Handler, content: bytes, start: int) -> None:
    """Send content in which every byte is changed."""
    honest(handler, bytes(byte ^ 1 for byte in content), start)


def status(code: int, sends: bool | bytes = False, **headers: str) -> Answer:
    """Return an answer: a status and headers, with the content, or `sends`, only if it is true."""

    def answer(handler, content, start):
        body = content if sends is True else sends or b""
        handler.send_response(code)
        handler.end_with({"Content_Length": str(len(body)), **headers})
        handler.wfile.write(body)

    return answer


@contextmanager
def serving(signed: str = "") -> Iterator[Server]:
    """Run a server during a block, over TLS with the file `signed` of a key and a certificate."""
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
