"""The station on a fake `network`, and the clock against time servers on loopback, honest and other."""

import asyncio
import os
import socket
import sys

TIMEOUT = 15
NTP_DELTA = 2208988800
TIME = 1800000000  # 2027-01-15T08:00:00Z


class Clock:
    """In place of machine.RTC: what the clock was set to."""

    set_to = None

    def datetime(self, fields):
        Clock.set_to = fields


class Wlan:
    """In place of network.WLAN: it joins at the `joins_at`-th connect, and only with the right password."""

    def __init__(self):
        self.on = True
        self.connects = []
        self.joins_at = 1
        self.up = False
        self.error = None

    def active(self, on):
        self.on = on

    def connect(self, ssid, password):
        self.connects.append((ssid, password))
        if self.error:
            raise self.error
        self.up = len(self.connects) >= self.joins_at and password == "right"

    def disconnect(self):
        self.up = False

    def isconnected(self):
        return self.up

    def status(self):
        return 201


class Network:
    STA_IF = 0
    AP_IF = 1


class Machine:
    RTC = Clock


def load():
    """gatehouse.wifi with its hardware replaced and its times shortened."""
    Network.interfaces = [Wlan(), Wlan()]
    Network.WLAN = staticmethod(lambda number: Network.interfaces[number])
    sys.modules["network"] = Network
    sys.modules["machine"] = Machine
    from gatehouse import wifi

    wifi.JOIN_MS = 20
    wifi.LOOK_MS = wifi.POLL_MS = 1
    wifi.FIRST_RETRY_MS, wifi.LAST_RETRY_MS = 2, 8
    return wifi


async def until(condition):
    """Wait for what must happen; the test's own time limit ends what does not."""
    while not condition():
        await asyncio.sleep_ms(1)


# The station.


async def kept(wifi, password, condition, joins_at=1, error=None, then=None):
    station_interface, _ = Network.interfaces
    station_interface.joins_at = joins_at
    station_interface.error = error
    station = wifi.Station("house", password)
    task = asyncio.create_task(station.keep())
    await until(lambda: condition(station, station_interface))
    if then:
        await then(station, station_interface)
    task.cancel()
    return station


async def test_joins_with_the_given_credentials_and_access_point_off():
    wifi = load()
    await kept(wifi, "right", lambda station, wlan: station.joins)
    assert Network.interfaces[0].connects == [("house", "right")]
    assert Network.interfaces[0].on
    assert not Network.interfaces[1].on


async def test_tries_again_until_the_network_is_there():
    wifi = load()
    station = await kept(wifi, "right", lambda station, wlan: station.joins, joins_at=4)
    assert len(Network.interfaces[0].connects) == 4
    assert station.joins == 1 and wifi.losses == 0, "what never was there cannot be lost"


async def test_a_driver_error_is_survived():
    wifi = load()
    wlan = Network.interfaces[0]

    async def recovers(station, wlan):
        wlan.error = None
        await until(lambda: station.joins)

    error = OSError("Wifi Internal State Error")
    await kept(wifi, "right", lambda station, wlan: len(wlan.connects) == 2, error=error, then=recovers)
    assert wlan.up


async def test_a_lost_network_is_joined_again():
    wifi = load()

    async def lose(station, wlan):
        assert wifi.losses == 0
        wlan.up = False
        await until(lambda: station.joins == 2)
        assert wifi.losses == 1, "counted once, however long it was away"

    await kept(wifi, "right", lambda station, wlan: station.joins == 1, then=lose)


async def test_pauses_begin_anew_after_each_join():
    wifi = load()
    asked = []
    wifi._pause = lambda attempts: asked.append(attempts) or 1

    async def lose(station, wlan):
        for joins in (1, 2):
            wlan.up = False
            await until(lambda least=joins: station.joins > least)

    await kept(wifi, "right", lambda station, wlan: station.joins == 1, joins_at=3, then=lose)
    assert asked == [0, 1, 0, 0]


async def test_the_chip_comes_back_by_itself_first():
    wifi = load()
    wifi.JOIN_MS = 5000

    async def flicker(station, wlan):
        wlan.up = False
        await asyncio.sleep_ms(10)
        wlan.up = True
        await asyncio.sleep_ms(10)
        assert len(wlan.connects) == 1 and wifi.losses == 1

    await kept(wifi, "right", lambda station, wlan: station.joins == 1, then=flicker)


def test_pauses_grow_within_bounds_and_by_lot():
    wifi = load()
    wifi.FIRST_RETRY_MS, wifi.LAST_RETRY_MS = 1000, 60000
    for attempts in range(40):
        whole = min(60000, 1000 << attempts)
        found = [wifi._pause(attempts) for _ in range(20)]
        assert whole // 2 <= min(found) <= max(found) <= whole, (attempts, found)
        assert len(set(found)) > 5


# The clock.


def bound():
    """(UDP socket, port) on loopback; the unix port cannot tell the port of a bound socket, so one is guessed."""
    while True:
        port = 20000 + int.from_bytes(os.urandom(2), "big") // 2
        server = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        server.setblocking(False)
        try:
            server.bind(socket.getaddrinfo("127.0.0.1", port, 0, socket.SOCK_DGRAM)[0][-1])
            return server, port
        except OSError:
            server.close()


def honest(request, unix=TIME):
    """The answer of a server whose clock shows `unix`."""
    stamp = (unix + NTP_DELTA & 0xFFFFFFFF).to_bytes(4, "big") + bytes(4)
    return b"\x24\x01\x00\xec" + bytes(8) + b"LOCL" + stamp + request[40:48] + stamp + stamp


async def ask(wifi, answers, not_before=0, from_elsewhere=False):
    """What sync_clock() says when the server answers with answers(request), a list of packets."""
    server, port = bound()
    other, _ = bound()
    Clock.set_to = None
    requests = []

    async def serve():
        while True:
            try:
                request, sender = server.recvfrom(100)
            except OSError:
                await asyncio.sleep_ms(1)
                continue
            requests.append(request)
            for answer in answers(request):
                (other if from_elsewhere else server).sendto(answer, sender)

    task = asyncio.create_task(serve())
    done = await wifi.sync_clock("127.0.0.1", port, not_before)
    task.cancel()
    server.close()
    other.close()
    assert len(requests) == 1
    return done, requests[0]


async def test_clock_is_set_by_an_honest_answer():
    wifi = load()
    done, request = await ask(wifi, lambda request: [honest(request)])
    assert done
    assert Clock.set_to == (2027, 1, 15, 4, 8, 0, 0, 0)
    # A client's packet that tells nothing of the device: its timestamp is random.
    assert request[:40] == b"\x23" + bytes(39)
    _, other = await ask(wifi, lambda request: [honest(request)])
    assert request[40:] != other[40:]


async def test_longer_answers_and_the_era_after_2036():
    wifi = load()
    assert (await ask(wifi, lambda request: [honest(request) + bytes(20)]))[0]
    assert (await ask(wifi, lambda request: [honest(request, 2100000000)]))[0]
    assert Clock.set_to == (2036, 7, 18, 4, 13, 20, 0, 0)


def changed(position, value):
    def answers(request):
        packet = bytearray(honest(request))
        packet[position] = value
        return [bytes(packet)]

    return answers


WRONG = (
    ("a client's packet", changed(0, 0x23)),
    ("a broadcast", changed(0, 0x25)),
    ("leap indicator: not synchronized", changed(0, 0xE4)),
    ("stratum 0: kiss of death", changed(1, 0)),
    ("stratum 16: not synchronized", changed(1, 16)),
    ("not our number", lambda request: [honest(bytes(48))]),
    ("one bit of our number", lambda request: [honest(request[:47] + bytes([request[47] ^ 1]))]),
    ("before this firmware", lambda request: [honest(request, 1767225599)]),
    ("too short", lambda request: [honest(request)[:47]]),
    ("empty", lambda request: [b""]),
    ("silence", lambda request: []),
)


async def test_other_answers_do_not_set_it():
    wifi = load()
    wifi.ANSWER_MS = 30
    for name, answers in WRONG:
        done, _ = await ask(wifi, answers)
        assert (done, Clock.set_to) == (False, None), name
    assert not (await ask(wifi, lambda request: [honest(request)], from_elsewhere=True))[0]
    assert Clock.set_to is None
    # The limits themselves are taken.
    assert (await ask(wifi, lambda request: [honest(request, 1767225600)]))[0]
    assert (await ask(wifi, changed(1, 15)))[0]


async def test_a_forged_answer_does_not_displace_the_right_one():
    wifi = load()
    for name, answers in WRONG:
        done, _ = await ask(wifi, lambda request, wrong=answers: wrong(request) * 3 + [honest(request)])
        assert done, name
        assert Clock.set_to == (2027, 1, 15, 4, 8, 0, 0, 0)


async def test_time_before_what_is_known_is_not_taken():
    wifi = load()
    wifi.ANSWER_MS = 30
    assert not (await ask(wifi, lambda request: [honest(request)], TIME + 1))[0]
    assert Clock.set_to is None
    assert (await ask(wifi, lambda request: [honest(request)], TIME))[0]


async def test_the_socket_is_closed_whatever_comes():
    wifi = load()
    wifi.ANSWER_MS = 30
    sockets = []

    class Watched:
        def __init__(self, *arguments):
            self.closed = False
            self._socket = socket.socket(*arguments)
            sockets.append(self)

        def __getattr__(self, name):
            return getattr(self._socket, name)

        def close(self):
            self.closed = True
            self._socket.close()

    class Module:
        AF_INET, SOCK_DGRAM, getaddrinfo = socket.AF_INET, socket.SOCK_DGRAM, staticmethod(socket.getaddrinfo)

    Module.socket = Watched
    wifi.socket = Module
    assert (await ask(wifi, lambda request: [honest(request)]))[0]
    assert not (await ask(wifi, lambda request: []))[0]
    asking = asyncio.create_task(wifi.sync_clock("127.0.0.1", bound()[1]))
    await asyncio.sleep_ms(5)
    asking.cancel()
    await asyncio.sleep_ms(5)
    assert [one.closed for one in sockets] == [True, True, True]


async def test_no_server_and_no_name():
    wifi = load()
    wifi.ANSWER_MS = 30
    server, port = bound()
    server.close()
    assert not await wifi.sync_clock("127.0.0.1", port)
    assert not await wifi.sync_clock("nowhere.invalid", 123)


def test_now_is_none_while_the_clock_is_unset():
    wifi = load()

    class Time:
        shown = 0

        @staticmethod
        def time():
            return Time.shown

    wifi.time = Time
    for epoch in (0, 946684800):
        wifi._EPOCH = epoch
        Time.shown = 1767225599 - epoch
        assert wifi.now() is None
        Time.shown += 1
        assert wifi.now() == 1767225600


# Both together.


class Config:
    ntp = "127.0.0.1"


class Store:
    data = None

    @classmethod
    def blob(cls, name):
        return cls.data if name == "wifi" else None


class Boot:
    config = Config
    store = Store
    not_before = TIME + 86400


async def test_run_keeps_the_station_and_the_clock():
    from gatehouse import cbor

    wifi = load()
    server, Config.ntp_port = bound()
    Clock.set_to = None
    Store.data = cbor.dumps(["house", "right"])
    wifi.ANSWER_MS = 20
    heard = []

    async def serve():
        while True:
            try:
                request, sender = server.recvfrom(100)
            except OSError:
                await asyncio.sleep_ms(1)
                continue
            heard.append(request)
            # The first two questions are not answered; the clock is asked again.
            if len(heard) > 2:
                server.sendto(honest(request), sender)

    serving = asyncio.create_task(serve())
    running = asyncio.create_task(wifi.run(Boot))
    await until(lambda: Clock.set_to)
    await asyncio.sleep_ms(30)
    running.cancel()
    serving.cancel()
    server.close()
    assert Network.interfaces[0].up
    # A day before the newest confirmed release is just late enough; and once it is right, it is not asked at once.
    assert Clock.set_to == (2027, 1, 15, 4, 8, 0, 0, 0)
    assert len(heard) == 3


async def test_run_without_credentials_stays_off_the_air():
    wifi = load()
    Store.data = None
    Config.ntp = ""
    await wifi.run(Boot)
    assert Network.interfaces[0].connects == []
