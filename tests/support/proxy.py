"""A way to a tracking server that is slow, and sometimes slower than whoever asks will wait."""

import http.client
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

HOP_BY_HOP = {"connection", "keep-alive", "transfer-encoding", "host", "content-length"}


@contextmanager
def slow_proxy(port: int, delay_s: Callable[[], float]) -> Iterator[str]:
    """Pass requests on to a port of this machine; yield the address of the proxy.

    Every answer is held back for as long as ``delay_s`` then says.
    """

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def forward(self) -> None:
            size = int(self.headers.get("Content-Length", 0))
            body = self.rfile.read(size)
            headers = {k: v for k, v in self.headers.items() if k.lower() not in HOP_BY_HOP}
            server = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
            try:
                server.request(self.command, self.path, body, headers)
                answer = server.getresponse()
                content = answer.read()
            except OSError:
                self.close_connection = True  # as if the server had hung up
                return
            finally:
                server.close()
            time.sleep(delay_s())
            try:
                self.send_response(answer.status)
                for name, value in answer.getheaders():
                    if name.lower() not in HOP_BY_HOP:
                        self.send_header(name, value)
                self.send_header("Content-Length", str(len(content)))
                self.end_headers()
                self.wfile.write(content)
            except OSError:
                self.close_connection = True  # nobody waits any more

        do_GET = do_POST = do_PUT = do_PATCH = do_DELETE = forward

        def log_message(self, *arguments: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as proxy:
        thread = threading.Thread(target=proxy.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{proxy.server_port}"
        proxy.shutdown()
        thread.join()
