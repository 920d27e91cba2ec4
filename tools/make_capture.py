#!/usr/bin/env python3
"""Makes notebooks/data/first_capture.pcap anew: what tcpdump sees on a wire between two hosts of our own.

The hosts are two network namespaces with a veth pair between them, so every frame is a real one that Linux's
network stack has built: ARP, ICMP echoes, UDP datagrams to an echo server, and a short HTTP request over TCP.
Needs root, ip and tcpdump; touches no interface of the machine, and removes the namespaces when it is done.
"""

from __future__ import annotations

import fcntl
import http.server
import os
import signal
import socket
import struct
import subprocess
import sys
import time
from pathlib import Path

CAPTURE = Path(__file__).resolve().parents[1] / "notebooks" / "data" / "first_capture.pcap"
CLIENT, SERVER = "192.0.2.1", "192.0.2.2"  # addresses set aside for documentation
SPACES = {CLIENT: "bpfsim-client", SERVER: "bpfsim-server"}
PAGE = b"<h1>It works.</h1>\n"


def ip(*words: str) -> None:
    subprocess.run(["ip", *words], check=True)


def make_hosts() -> None:
    for space in SPACES.values():
        ip("netns", "add", space)
    ip("link", "add", "eth0", "netns", SPACES[CLIENT], "type", "veth",
       "peer", "name", "eth0", "netns", SPACES[SERVER])  # fmt: skip
    for number, (address, space) in enumerate(SPACES.items(), 1):
        # no IPv6 address: its neighbour discovery would add packets at random times
        ip(
            "-n",
            space,
            "link",
            "set",
            "eth0",
            "address",
            f"02:00:00:00:00:{number:02}",
            "addrgenmode",
            "none",
        )
        ip("-n", space, "address", "add", f"{address}/24", "dev", "eth0")
        ip("-n", space, "link", "set", "eth0", "up")


def remove_hosts() -> None:
    for space in SPACES.values():
        subprocess.run(["ip", "netns", "delete", space], stderr=subprocess.DEVNULL, check=False)


def checksums_in_software() -> None:
    """ETHTOOL_STXCSUM 0: else the sums of TCP and UDP are left to a network card that a veth pair has not."""
    import ctypes

    command = ctypes.create_string_buffer(struct.pack("II", 0x17, 0))
    request = struct.pack("16sP8x", b"eth0", ctypes.addressof(command))
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as any_socket:
        fcntl.ioctl(any_socket, 0x8946, request)


def serve() -> None:
    """UDP port 7 sends back what it gets, TCP port 80 serves one page."""

    class OnePage(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.send_header("Content-Length", str(len(PAGE)))
            self.end_headers()
            self.wfile.write(PAGE)

        def log_message(self, *_: object) -> None:
            pass

    checksums_in_software()
    echo = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    echo.bind((SERVER, 7))
    web = http.server.HTTPServer((SERVER, 80), OnePage)
    print("ready", flush=True)
    for _ in range(3):
        data, client = echo.recvfrom(512)
        echo.sendto(data, client)
    web.handle_request()


def checksum(data: bytes) -> int:
    total = sum(struct.unpack(f"!{len(data) // 2}H", data))
    total = (total & 0xFFFF) + (total >> 16)
    return ~(total + (total >> 16)) & 0xFFFF


def talk() -> None:
    """Four pings, three datagrams, one page."""
    checksums_in_software()
    with socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_ICMP) as ping:
        ping.settimeout(2)
        for number in range(1, 5):
            body = bytes(range(0x10, 0x30))
            sum_ = checksum(struct.pack("!BBHHH", 8, 0, 0, 470, number) + body)
            ping.sendto(struct.pack("!BBHHH", 8, 0, sum_, 470, number) + body, (SERVER, 0))
            ping.recv(512)
            time.sleep(0.05)
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as datagrams:
        datagrams.settimeout(2)
        for text in (b"one", b"two", b"three"):
            datagrams.sendto(text, (SERVER, 7))
            datagrams.recv(512)
            time.sleep(0.02)
    with socket.create_connection((SERVER, 80), timeout=2) as web:
        web.sendall(f"GET / HTTP/1.0\r\nHost: {SERVER}\r\n\r\n".encode())
        while web.recv(4096):
            pass


def inside(host: str, *command: str) -> list[str]:
    return ["ip", "netns", "exec", SPACES[host], *command]


def main() -> None:
    if os.geteuid() != 0:
        sys.exit("make_capture: making network namespaces needs root")
    CAPTURE.parent.mkdir(parents=True, exist_ok=True)
    me = [sys.executable, str(Path(__file__).resolve())]
    try:
        make_hosts()
        with subprocess.Popen(inside(SERVER, *me, "serve"), stdout=subprocess.PIPE) as server:
            assert server.stdout and server.stdout.readline() == b"ready\n"
            tcpdump = inside(
                SERVER, "tcpdump", "-i", "eth0", "-U", "--immediate-mode", "-Z", "root", "-w", str(CAPTURE)
            )
            with subprocess.Popen(tcpdump, stderr=subprocess.PIPE) as capturing:
                assert capturing.stderr and b"listening" in capturing.stderr.readline()
                subprocess.run(inside(CLIENT, *me, "talk"), check=True)
                time.sleep(0.3)
                capturing.send_signal(signal.SIGINT)
                print(capturing.stderr.read().decode().strip())
    finally:
        remove_hosts()


if __name__ == "__main__":
    {"serve": serve, "talk": talk}.get(sys.argv[1] if len(sys.argv) > 1 else "", main)()
