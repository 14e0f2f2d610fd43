"""A stub of neutron and glance: ``python -m tests.lab.inside.stub PORT`` answers every GET alike.

Servers of the lab have no network and boot from a volume, so Nova asks these two for lists only.
"""

import json
import sys
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

LISTS = ("networks", "subnets", "ports", "floatingips", "security_groups", "extensions", "images")


class Handler(BaseHTTPRequestHandler):
    """Answers with every list that somebody might look for, all empty."""

    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        """Answer."""
        body = json.dumps({name: [] for name in LISTS}).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)


if __name__ == "__main__":
    ThreadingHTTPServer(("127.0.0.1", int(sys.argv[1])), Handler).serve_forever()
