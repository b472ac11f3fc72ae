"""The time server of simulated devices."""

import socket
import struct
import time

import pytest

from gatehouse_tools import ntp
from gatehouse_tools.errors import GatehouseError

DELTA = 2208988800


def ask(server, packet):
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as client:
        client.settimeout(10)
        client.connect(("127.0.0.1", server.port))
        client.send(packet)
        return client.recv(100)


def test_answer_is_a_server_s_to_this_client():
    with ntp.Server() as server:
        answer = ask(server, b"\x23" + bytes(39) + b"a number")
        assert len(answer) == 48
        assert (answer[0], answer[1], answer[24:32]) == (0x24, 1, b"a number")
        received, sent = struct.unpack(">I4xI4x", answer[32:])
        assert received == sent
        assert abs(sent - DELTA - time.time()) < 5


def test_clock_can_be_set_beyond_2036():
    with ntp.Server() as server:
        for unix in (1800000000, 2100000000):
            server.set(unix)
            sent = struct.unpack(">I", ask(server, b"\x23" + bytes(47))[40:44])[0]
            assert abs(sent - (unix + DELTA) % (1 << 32)) < 5


def test_what_is_no_question_is_not_answered():
    with ntp.Server() as server:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as client:
            client.connect(("127.0.0.1", server.port))
            for packet in (b"", b"\x23" * 47, b"\x24" + bytes(47)):
                client.send(packet)
        ask(server, b"\x23" + bytes(47))
    assert server.answers == 1


def test_port_is_freed_and_a_busy_one_is_told():
    with ntp.Server() as server, pytest.raises(GatehouseError, match=str(server.port)):
        ntp.Server(port=server.port)
    with ntp.Server(port=server.port):
        pass
    ntp.Server().stop()  # never started
