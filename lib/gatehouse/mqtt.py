"""MQTT 3.1.1 by umqtt.simple, made safe to leave alone with a network.

umqtt.simple (1.3.4 or 1.8) trusts the broker's lengths, waits for ever and writes each packet in pieces. Its protocol
is used as it is. What it takes for a socket (dial.Wire) collects the pieces into one write and keeps a deadline for the
whole operation, however slowly bytes trickle; it stands in for umqtt's module `socket` only while connect() runs,
because 1.3.4 has neither a timeout nor an SSLContext there. wait_msg() reads packets with a bound on every length, and
the packet id wraps at 65535, where umqtt would send 0.
"""

import gc
from errno import ETIMEDOUT

from micropython import const
from umqtt import simple

from gatehouse import Refused
from gatehouse.dial import BUFFER, Wire, is_tls

MAX_MESSAGE = 8192  # bytes of payload: the largest envelope that suit takes
_MAX_TOPIC = const(128)
_SMALL = const(1024)  # bytes that are found somewhere even in a heap in use
_MAX_DRAIN = const(1 << 20)  # a larger packet is no accident: the connection ends
_PUBLISH = const(0x30)
_PUBACK = const(0x40)
_SUBACK = const(0x90)
_PINGRESP = const(0xD0)


def _room(length):
    """Whether memory has room for a payload and the copy that is made where it comes in pieces.

    A retained message that ends the session would end each that follows, too. One that is passed over does not.
    """
    if length <= _SMALL:
        return True
    try:
        kept = bytearray(length), bytearray(length)
        return bool(kept)
    except MemoryError:
        return False
    finally:
        kept = None
        gc.collect()


def kind(error):
    """What sort of failure one of FAILURES is: timeout, tls, refused, protocol, memory, state or network."""
    if isinstance(error, Refused):
        return error.reason
    if isinstance(error, MemoryError):
        return "memory"
    if isinstance(error, simple.MQTTException):
        return "refused"
    if isinstance(error, OSError):
        if error.errno == ETIMEDOUT:
            return "timeout"
        return "tls" if is_tls(error) else "network"
    return "tls" if is_tls(error) else "protocol"  # umqtt's doubts are assertions


def buffer():
    """What a Client writes through; made once, since a heap in use may not have such a piece for the next Client."""
    return memoryview(bytearray(BUFFER))


class Malformed(Exception):
    """A packet that no broker may send."""


# How a session can end. MemoryError among them, because what was half read cannot be gone on with.
FAILURES = (OSError, ValueError, AssertionError, MemoryError, Malformed, Refused, simple.MQTTException)


class Client(simple.MQTTClient):
    """One session with a broker over a connected socket. Every method may raise what kind() tells apart."""

    CONNECT_MS = 10000  # TLS handshake and CONNACK
    ANSWER_MS = 5000  # any other exchange

    def __init__(self, raw, host, context, buffer, client_id, user=None, password=None, keepalive=0):
        """raw: a connected socket, which this object closes; context: an SSLContext or None; buffer: from buffer()."""
        super().__init__(client_id, host, 1883, user, password, keepalive)
        self.oversize = 0  # messages that were too large and thrown away
        self.retained = False  # the message that the callback gets had been kept by the broker
        self.awaiting_ping = False
        self._expected = None
        try:
            self.wire = Wire(raw, context, host, buffer)
        except BaseException:
            raw.close()
            raise

    def open(self):
        """Open the session, clean."""
        self.wire.arm(self.CONNECT_MS)
        module = simple.socket  # type: ignore[attr-defined]
        simple.socket = self  # type: ignore[attr-defined]
        try:
            super().connect(True)
        finally:
            simple.socket = module  # type: ignore[attr-defined]

    def socket(self, *_):
        """umqtt's module `socket` while it connects."""
        return self.wire

    def getaddrinfo(self, *_):
        """umqtt's module `socket` while it connects."""
        return ((None,),)

    def subscribe(self, topic, qos=1):
        """Subscribe and wait for the SUBACK. `topic` is bytes of at most 120."""
        self.exchange(_SUBACK)
        super().subscribe(topic, qos)

    def publish(self, topic, payload, retain=False, qos=0):
        """Publish bytes; for QoS 1 wait for the PUBACK."""
        self.exchange(_PUBACK if qos else None)
        super().publish(topic, payload, retain, qos)
        self.wire.flush()

    def ping(self):
        """Send a PINGREQ; `awaiting_ping` until its answer came."""
        self.exchange(None)
        super().ping()
        self.wire.flush()
        self.awaiting_ping = True

    def step(self):
        """Take one packet if there is one. Whether there was."""
        if not self.wire.readable():
            return False
        self.exchange(None)
        self.wait_msg()
        self.wire.flush()
        return True

    def disconnect(self):
        """Say farewell, so that the broker does not publish the will. Does not raise."""
        try:
            self.exchange(None)
            self.wire.write(b"\xe0\0")
            self.wire.flush()
        except OSError:
            pass  # it is gone already
        self.wire.close()

    def close(self):
        """Leave without farewell."""
        self.wire.close()

    def exchange(self, expected):
        """Begin one exchange: its time, and the first byte of the acknowledgement that wait_msg() returns."""
        self.wire.arm(self.ANSWER_MS)
        self._expected = expected
        if self.pid >= 65535:
            self.pid = 0

    # umqtt calls this while it waits for an acknowledgement, too.
    def wait_msg(self):
        """Read one packet: a message goes to the callback, an awaited acknowledgement's body is left to umqtt."""
        wire = self.wire
        op = wire.read(1)[0]
        if op == self._expected:
            return op
        length = self._length()
        if op == _PINGRESP and not length:
            self.awaiting_ping = False
            return None
        qos = op >> 1 & 3
        if op & 0xF0 != _PUBLISH or qos > 1 or length < 2 + 2 * qos or length > _MAX_DRAIN:
            raise Malformed("packet %02x of %d bytes" % (op, length))
        topic_length = int.from_bytes(wire.read(2), "big")
        length -= 2 + topic_length + 2 * qos
        if length < 0 or not topic_length:
            raise Malformed("topic of %d bytes" % topic_length)
        fits = topic_length <= _MAX_TOPIC and length <= MAX_MESSAGE and _room(length)
        topic = wire.read(topic_length) if fits else self._drain(topic_length)
        packet_id = wire.read(2) if qos else None
        payload = wire.read(length) if fits else self._drain(length)
        if fits:
            self.retained = bool(op & 1)
            self.cb(topic, payload)
        else:
            self.oversize += 1
        if qos:
            wire.write(b"\x40\x02")
            wire.write(packet_id)
        return None

    def _length(self):
        value = 0
        for shift in (0, 7, 14, 21):
            byte = self.wire.read(1)[0]
            value |= (byte & 0x7F) << shift
            if byte < 0x80:
                return value
        raise Malformed("length")

    def _drain(self, count):
        scratch = memoryview(bytearray(256))
        while count:
            step = min(count, 256)
            self.wire.readinto(scratch[:step])
            count -= step
