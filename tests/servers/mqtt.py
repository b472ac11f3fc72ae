"""Brokers that misbehave, and what the host side of a test sees of a good one."""

import contextlib
import queue
import socket
import ssl
import threading

import paho.mqtt.client as paho

WAIT = 20.0


class Peer:
    """One client's connection, seen from a broker that is written out by the test."""

    def __init__(self, connection):
        self.connection = connection
        self.packets = []  # (type, flags, body) of everything that came

    def packet(self):
        """(type, flags, body) of the next packet; ConnectionError at the end."""
        head = self._exactly(1)[0]
        length = shift = 0
        while True:
            byte = self._exactly(1)[0]
            length |= (byte & 127) << shift
            shift += 7
            if byte < 128:
                break
        found = head >> 4, head & 15, self._exactly(length)
        self.packets.append(found)
        return found

    def _exactly(self, count):
        data = b""
        while len(data) < count:
            piece = self.connection.recv(count - len(data))
            if not piece:
                raise ConnectionError
            data += piece
        return data

    def send(self, data):
        self.connection.sendall(data)

    def answer(self, found):
        """What an honest broker says to a packet: CONNACK, SUBACK, PUBACK, PINGRESP."""
        kind, flags, body = found
        if kind == 1:
            self.send(b"\x20\x02\0\0")
        elif kind == 8:
            self.send(b"\x90\x03" + body[:2] + b"\x01")
        elif kind == 3 and flags & 6:
            topic = int.from_bytes(body[:2], "big")
            self.send(b"\x40\x02" + body[2 + topic : 4 + topic])
        elif kind == 12:
            self.send(b"\xd0\0")

    def until(self, kind):
        """Answer honestly up to and without the next packet of this type; that packet."""
        while True:
            found = self.packet()
            if found[0] == kind:
                return found
            self.answer(found)

    def welcome(self):
        """Take the client up to its `online`, that included."""
        self.answer(self.until(3))

    def serve(self):
        """Be honest until the client goes."""
        while True:
            self.answer(self.packet())

    def rest(self):
        """Say nothing until the client goes."""
        while self.connection.recv(4096):
            pass


def message(topic, payload, packet_id=None, length=None):
    """A PUBLISH, at QoS 1 where it has a packet id; `length` is what its header claims."""
    body = len(topic).to_bytes(2, "big") + topic.encode()
    if packet_id is not None:
        body += packet_id.to_bytes(2, "big")
    body += payload
    return bytes([0x30 if packet_id is None else 0x32]) + remaining(len(body) if length is None else length) + body


def remaining(length):
    """The remaining length as MQTT writes it."""
    out = b""
    while True:
        length, low = divmod(length, 128)
        out += bytes([low | (128 if length else 0)])
        if not length:
            return out


class RawBroker:
    """Runs `case(peer)` for each connection, in a thread; a context manager. `context`: an ssl.SSLContext for TLS."""

    def __init__(self, case, context=None):
        self._case = case
        self._context = context
        self._socket = socket.create_server(("127.0.0.1", 0))
        self.port = self._socket.getsockname()[1]
        self.peers = []
        self.errors = []
        self._threads = []

    def __enter__(self):
        self._accepting = threading.Thread(target=self._accept, daemon=True)
        self._accepting.start()
        return self

    def _accept(self):
        while True:
            try:
                connection, _ = self._socket.accept()
            except OSError:
                return
            thread = threading.Thread(target=self._serve, args=(connection,), daemon=True)
            self._threads.append((thread, connection))
            thread.start()

    def _serve(self, connection):
        with connection:
            try:
                if self._context:
                    connection = self._context.wrap_socket(connection, server_side=True)
                peer = Peer(connection)
                self.peers.append(peer)
                with connection:
                    self._case(peer)
            except OSError:
                pass  # the client went: often what is being tested
            except Exception as error:  # noqa: BLE001 raised again in the test's own thread
                self.errors.append(error)

    def __exit__(self, *_):
        with contextlib.suppress(OSError):
            self._socket.shutdown(socket.SHUT_RDWR)
        self._socket.close()
        for thread, connection in self._threads:
            with contextlib.suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)
            thread.join(5)
        assert not self.errors, self.errors


class Observer:
    """The host's own client on a real broker; get() gives the next (topic, payload, retained) delivered to it."""

    def __init__(self, port, ca, certificate, key, *filters):
        self._messages: queue.Queue[tuple[str, bytes, bool]] = queue.Queue()
        subscribed: queue.Queue[None] = queue.Queue()
        self._client = paho.Client(paho.CallbackAPIVersion.VERSION2, client_id=f"observer-{id(self)}")
        self._client.on_message = lambda _, __, m: self._messages.put((m.topic, bytes(m.payload), bool(m.retain)))
        self._client.on_connect = lambda client, *_: client.subscribe([(filter_, 1) for filter_ in filters])
        self._client.on_subscribe = lambda *_: subscribed.put(None)
        self._client.tls_set(str(ca), str(certificate), str(key), tls_version=ssl.PROTOCOL_TLS_CLIENT)
        self._client.connect("127.0.0.1", port)
        self._client.loop_start()
        subscribed.get(timeout=WAIT)

    def get(self, timeout=WAIT):
        return self._messages.get(timeout=timeout)

    def until(self, topic, payload):
        """Skip what comes before this message."""
        while self.get()[:2] != (topic, payload):
            pass

    def nothing(self, wait=0.2):
        with contextlib.suppress(queue.Empty):
            raise AssertionError(self._messages.get(timeout=wait))

    def publish(self, topic, payload, retain=False):
        self._client.publish(topic, payload, 1, retain).wait_for_publish(WAIT)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self._client.disconnect()
        self._client.loop_stop()
