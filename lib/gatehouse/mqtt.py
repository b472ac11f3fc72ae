"""MQTT 3.1.1 by umqtt.simple, made safe to leave alone with a network.

umqtt.simple (1.3.4 or 1.8) trusts the broker's lengths, waits for ever and writes each packet in pieces. Its protocol
is used as it is. What it takes for a socket collects the pieces into one write and keeps a deadline for the whole
operation, however slowly bytes trickle; it stands in for umqtt's module `socket` only while connect() runs, because
1.3.4 has neither a timeout nor an SSLContext there. wait_msg() reads packets with a bound on every length, and the
packet id wraps at 65535, where umqtt would send 0.
"""

import select
from errno import ECONNRESET, ETIMEDOUT
from time import ticks_add, ticks_diff, ticks_ms

from micropython import const
from umqtt import simple

from gatehouse import Refused
from gatehouse.dial import is_tls

MAX_MESSAGE = 8192  # bytes of payload: the largest envelope that suit takes
_MAX_TOPIC = const(128)
_MAX_DRAIN = const(1 << 20)  # a larger packet is no accident: the connection ends
_BUFFER = const(1400)  # one TLS record in one segment
_SLICE_MS = const(100)
_IPPROTO_TCP = const(6)  # the unix port has no names for these two
_TCP_NODELAY = const(1)
_PUBLISH = const(0x30)
_PUBACK = const(0x40)
_SUBACK = const(0x90)
_PINGRESP = const(0xD0)


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
    return memoryview(bytearray(_BUFFER))


class Malformed(Exception):
    """A packet that no broker may send."""


# How a session can end. MemoryError among them, because what was half read cannot be gone on with.
FAILURES = (OSError, ValueError, AssertionError, MemoryError, Malformed, Refused, simple.MQTTException)


class _Wire:
    """What umqtt takes for a socket: a connected one, non-blocking, with TLS where there is a context."""

    def __init__(self, raw, context, host, buffer):
        raw.setblocking(False)
        raw.setsockopt(_IPPROTO_TCP, _TCP_NODELAY, 1)  # a message of several segments must not wait for an ACK
        self._raw = raw
        self._sock = raw
        if context:
            # The handshake happens with the first write, so that its time counts too.
            self._sock = context.wrap_socket(raw, server_hostname=host, do_handshake_on_connect=False)
        self._poller = select.poll()
        self._poller.register(self._sock, select.POLLIN)
        # Waits for reading ask the raw socket: TLS has nothing left by then, and the raw one can sleep in the kernel.
        self._raw_poller = select.poll()
        self._raw_poller.register(raw, select.POLLIN)
        self._buffer = buffer
        self._used = 0
        self._deadline = ticks_ms()

    def arm(self, limit_ms):
        """Give what follows so much time."""
        self._deadline = ticks_add(ticks_ms(), limit_ms)

    def readable(self):
        """Whether something, or the end, can be read now."""
        self._poller.modify(self._sock, select.POLLIN)
        return bool(self._poller.poll(0))

    def _wait(self, poller):
        left = ticks_diff(self._deadline, ticks_ms())
        if left <= 0:
            raise OSError(ETIMEDOUT)
        poller.poll(min(left, _SLICE_MS))

    def read(self, count):
        """Exactly `count` bytes."""
        self.flush()
        if not count:
            return b""
        data = None
        while data is None:
            data = self._sock.read(count)
            if data is None:
                self._wait(self._raw_poller)
        if len(data) == count:  # most often: no second copy
            return data
        if not data:
            raise OSError(ECONNRESET)
        whole = bytearray(count)
        whole[: len(data)] = data
        self.readinto(memoryview(whole)[len(data) :])
        return bytes(whole)

    def readinto(self, view):
        """Fill a memoryview."""
        while len(view):
            count = self._sock.readinto(view)
            if count is None:
                self._wait(self._raw_poller)
            elif not count:
                raise OSError(ECONNRESET)
            else:
                view = view[count:]

    def write(self, data, count=-1):
        """Collect `data`; it goes out with the next read or flush, or when the buffer is full."""
        view = memoryview(data)
        if count >= 0:
            view = view[:count]
        while len(view):
            if not self._used and len(view) > _BUFFER:
                self._put(view)  # what is left of a large message goes without being copied
                return
            room = min(len(view), _BUFFER - self._used)
            self._buffer[self._used : self._used + room] = view[:room]
            self._used += room
            view = view[room:]
            if self._used == _BUFFER:
                self.flush()

    def flush(self):
        """Write what was collected."""
        view = self._buffer[: self._used]
        self._used = 0
        self._put(view)

    def _put(self, view):
        while len(view):
            count = self._sock.write(view)
            if count is None:
                self._poller.modify(self._sock, select.POLLOUT)
                self._wait(self._poller)
            else:
                view = view[count:]

    def close(self):
        """Close at once: what was not flushed is lost."""
        if self._sock is not self._raw:
            self._sock.close()
        self._raw.close()

    def settimeout(self, _):
        """Nothing to do: what else umqtt asks of a socket is done, this one is connected and its time limited."""

    connect = setblocking = settimeout


class Client(simple.MQTTClient):
    """One session with a broker over a connected socket. Every method may raise what kind() tells apart."""

    CONNECT_MS = 10000  # TLS handshake and CONNACK
    ANSWER_MS = 5000  # any other exchange

    def __init__(self, raw, host, context, buffer, client_id, user=None, password=None, keepalive=0):
        """raw: a connected socket, which this object closes; context: an SSLContext or None; buffer: from buffer()."""
        super().__init__(client_id, host, 1883, user, password, keepalive)
        self.oversize = 0  # messages that were too large and thrown away
        self.awaiting_ping = False
        self._expected = None
        try:
            self._wire = _Wire(raw, context, host, buffer)
        except BaseException:
            raw.close()
            raise

    def open(self):
        """Open the session, clean."""
        self._wire.arm(self.CONNECT_MS)
        module = simple.socket  # type: ignore[attr-defined]
        simple.socket = self  # type: ignore[attr-defined]
        try:
            super().connect(True)
        finally:
            simple.socket = module  # type: ignore[attr-defined]

    def socket(self, *_):
        """umqtt's module `socket` while it connects."""
        return self._wire

    def getaddrinfo(self, *_):
        """umqtt's module `socket` while it connects."""
        return ((None,),)

    def subscribe(self, topic, qos=1):
        """Subscribe and wait for the SUBACK. `topic` is bytes of at most 120."""
        self._exchange(_SUBACK)
        super().subscribe(topic, qos)

    def publish(self, topic, payload, retain=False, qos=0):
        """Publish bytes; for QoS 1 wait for the PUBACK."""
        self._exchange(_PUBACK if qos else None)
        super().publish(topic, payload, retain, qos)
        self._wire.flush()

    def ping(self):
        """Send a PINGREQ; `awaiting_ping` until its answer came."""
        self._exchange(None)
        super().ping()
        self._wire.flush()
        self.awaiting_ping = True

    def step(self):
        """Take one packet if there is one. Whether there was."""
        if not self._wire.readable():
            return False
        self._exchange(None)
        self.wait_msg()
        self._wire.flush()
        return True

    def disconnect(self):
        """Say farewell, so that the broker does not publish the will. Does not raise."""
        try:
            self._exchange(None)
            self._wire.write(b"\xe0\0")
            self._wire.flush()
        except OSError:
            pass  # it is gone already
        self._wire.close()

    def close(self):
        """Leave without farewell."""
        self._wire.close()

    def _exchange(self, expected):
        self._wire.arm(self.ANSWER_MS)
        self._expected = expected
        if self.pid >= 65535:
            self.pid = 0

    # umqtt calls this while it waits for an acknowledgement, too.
    def wait_msg(self):
        """Read one packet: a message goes to the callback, an awaited acknowledgement's body is left to umqtt."""
        wire = self._wire
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
        fits = topic_length <= _MAX_TOPIC and length <= MAX_MESSAGE
        topic = wire.read(topic_length) if fits else self._drain(topic_length)
        packet_id = wire.read(2) if qos else None
        payload = wire.read(length) if fits else self._drain(length)
        if fits:
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
            byte = self._wire.read(1)[0]
            value |= (byte & 0x7F) << shift
            if byte < 0x80:
                return value
        raise Malformed("length")

    def _drain(self, count):
        scratch = memoryview(bytearray(256))
        while count:
            step = min(count, 256)
            self._wire.readinto(scratch[:step])
            count -= step
