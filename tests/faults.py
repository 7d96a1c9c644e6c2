"""A proxy before a server of this machine that answers well for a while and then in one of the ways servers fail."""

import http.client
import itertools
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import urlsplit

HOP = {"connection", "keep-alive", "transfer-encoding", "content-length"}  # headers that are for one hop alone


class Proxy(ThreadingHTTPServer):
    """Fails from request number `start` on, `times` times; then it is well again. Only requests `about` this fail.

    fault: `hang` never answers; `drip` takes ages over an answer; `error` answers 500; `drop` closes the connection
    before the server has heard of the request; `cut` closes it in the middle of the server's answer, and `lose` before
    it, so that the client asks again for what is done already.
    """

    daemon_threads = True

    def __init__(self, server: str, fault: str, start: int = 0, times: float = float("inf"), about: str = ""):
        super().__init__(("127.0.0.1", 0), Handler)
        self.upstream, self.fault, self.about = urlsplit(server).netloc, fault, about
        self.lock, self.closing = threading.Lock(), threading.Event()
        self.arm(start, times)

    def arm(self, start: int, times: float) -> None:
        """From now on, count anew."""
        with self.lock:
            self.start, self.left, self.counted, self.failed = start, times, itertools.count(), threading.Event()

    def fails(self, path: str) -> bool:
        with self.lock:
            if self.about not in path or next(self.counted) < self.start or self.left <= 0:
                return False
            self.left -= 1
            self.failed.set()
            return True

    def handle_error(self, request, client_address):
        """Whoever asked may be gone already."""


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def answer(self):
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        fault = self.server.fault if self.server.fails(self.path) else ""
        if fault == "hang":
            self.server.closing.wait()
        elif fault == "error":
            self.send_error(500)
        elif not fault or fault in ("cut", "drip", "lose"):
            self.relay(body, fault)
        if fault:
            self.close_connection = True

    do_GET = do_POST = do_PUT = do_PATCH = do_DELETE = answer

    def relay(self, body: bytes, fault: str):
        upstream = http.client.HTTPConnection(self.server.upstream, timeout=60)
        upstream.request(self.command, self.path, body, {**self.headers, "Connection": "close"})
        answer = upstream.getresponse()
        content = answer.read()
        upstream.close()
        if fault == "lose":
            return
        self.send_response(answer.status)
        for name, value in answer.getheaders():
            if name.lower() not in HOP:
                self.send_header(name, value)
        self.send_header("Content-Length", str(len(content) + (fault == "cut")))
        if fault == "drip":
            while not self.server.closing.wait(1):
                self.wfile.write(b"".join([*self._headers_buffer, b"X-Wait: 1\r\n"]))
                self._headers_buffer = []
        self.end_headers()
        self.wfile.write(content[: len(content) // 2] if fault == "cut" else content)

    def log_message(self, *words):
        """Nothing: what is asked is counted."""


@contextmanager
def failing(server: str, fault: str, **when: int | str) -> Iterator[Proxy]:
    """A Proxy that listens; its address is `proxy.address`."""
    with Proxy(server, fault, **when) as proxy:
        proxy.address = f"http://127.0.0.1:{proxy.server_port}"
        threading.Thread(target=proxy.serve_forever, daemon=True).start()
        try:
            yield proxy
        finally:
            proxy.closing.set()
            proxy.shutdown()
