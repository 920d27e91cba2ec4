"""Captures: what is written is read back, and a file that stops too early says where."""

import shutil
import struct
import subprocess
from pathlib import Path

import pytest
from bpfsim.pcap import Packet, read_pcap, write_pcap

CAPTURE = Path(__file__).resolve().parents[2] / "notebooks" / "data" / "first_capture.pcap"
FRAMES = [
    Packet(0, b""),
    Packet(1_700_000_000_123_456_000, bytes(range(60))),
    Packet(4_294_967_295_999_999_000, b"x" * 1514, 9000),
]


@pytest.mark.parametrize("nanoseconds", [False, True])
@pytest.mark.parametrize("big", [False, True])
def test_what_is_written_is_read_back(tmp_path, nanoseconds, big):
    path = tmp_path / "a.pcap"
    write_pcap(path, FRAMES, nanoseconds=nanoseconds, big=big)
    assert read_pcap(path) == FRAMES
    assert read_pcap(path.read_bytes()) == FRAMES
    magic = {
        (False, False): "d4c3b2a1",
        (True, False): "4d3cb2a1",
        (False, True): "a1b2c3d4",
        (True, True): "a1b23c4d",
    }
    assert path.read_bytes()[:4].hex() == magic[nanoseconds, big]


def test_nanoseconds_are_kept_only_where_the_file_has_them(tmp_path):
    path = tmp_path / "a.pcap"
    write_pcap(path, [Packet(1_999, b"a")])
    assert read_pcap(path)[0].time_ns == 1_000
    write_pcap(path, [Packet(1_999, b"a")], nanoseconds=True)
    assert read_pcap(path)[0].time_ns == 1_999


def test_plain_bytes_are_packets_too(tmp_path):
    write_pcap(tmp_path / "a.pcap", [b"one", b"two"])
    assert [bytes(p) for p in read_pcap(tmp_path / "a.pcap")] == [b"one", b"two"]


def test_every_truncation_is_an_error_that_names_an_offset(tmp_path):
    path = tmp_path / "a.pcap"
    write_pcap(path, FRAMES[:2])
    whole = path.read_bytes()
    complete = {24, 24 + 16, len(whole)}  # after the header, after the empty packet, at the end
    for size in range(len(whole) + 1):
        if size in complete:
            read_pcap(whole[:size])
            continue
        with pytest.raises(ValueError, match=f"ends at (offset )?{size}$"):
            read_pcap(whole[:size])


def test_files_that_are_something_else_are_refused():
    with pytest.raises(ValueError, match="offset 0 it has 7f 45 4c 46"):
        read_pcap(b"\x7fELF" + bytes(60))
    with pytest.raises(ValueError, match="pcapng"):
        read_pcap(b"\n\r\r\n" + bytes(60))
    damaged = struct.pack("<IHHiIII", 0xA1B2C3D4, 2, 4, 0, 0, 65535, 1) + struct.pack("<4I", 0, 0, 1 << 31, 1 << 31)
    with pytest.raises(ValueError, match="offset 32 is 2147483648"):
        read_pcap(damaged)
    with pytest.raises(FileNotFoundError):
        read_pcap("no/such/file.pcap")
    with pytest.raises(ValueError, match="1970 to 2106"):
        write_pcap("never-written.pcap", [Packet(-1, b"")])


def test_the_lesson_s_capture_is_small_and_has_what_the_lesson_needs():
    packets = read_pcap(CAPTURE)
    assert CAPTURE.stat().st_size < 8192
    assert 20 <= len(packets) <= 40
    assert [p.time_ns for p in packets] == sorted(p.time_ns for p in packets)
    assert all(len(p.data) == p.length >= 42 for p in packets)
    protocols = {p.data[23] for p in packets if p.data[12:14] == b"\x08\x00"}
    assert protocols == {1, 6, 17}  # ICMP, TCP, UDP
    assert any(p.data[12:14] == b"\x08\x06" for p in packets)  # ARP


@pytest.mark.skipif(not shutil.which("tcpdump"), reason="tcpdump is not installed: it judges the files we write")
def test_tcpdump_reads_what_we_write(tmp_path):
    path = tmp_path / "a.pcap"
    packets = read_pcap(CAPTURE)
    write_pcap(path, packets, nanoseconds=True, big=True)
    seen = subprocess.run(["tcpdump", "-tt", "-nr", path], capture_output=True, text=True, check=True).stdout
    assert len(seen.splitlines()) == len(packets)
    assert "ICMP echo request" in seen
