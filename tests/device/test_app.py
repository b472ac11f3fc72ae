"""The application: when it confirms, what it reports when, how it takes offers, and that no service dies alone."""

import asyncio
import sys

import fake_boot
from harness import raises

JOURNAL = "gatehouse/gh-1/journal/ack"


class Network:
    STA_IF, AP_IF = 0, 1

    class WLAN:
        def __init__(self, id):
            self.id = id

        def active(self, on=None):
            return self.id == Network.STA_IF

        def ifconfig(self):
            return ("192.0.2.7",) * 4

        def status(self, what):
            raise OSError("Wifi Not Connected")


class Esp32:
    value = 21

    @classmethod
    def mcu_temperature(cls):
        if isinstance(cls.value, Exception):
            raise cls.value
        return cls.value


class Link:
    """A broker that is there at once; `acknowledge` is what it says to reports."""

    connects = dropped = oversize = 0
    failures = {}
    retained = False
    acknowledge = True
    reachable = True

    def __init__(self, boot, on_message, on_connect):
        self.on_message, self.on_connect = on_message, on_connect
        self.connected = False
        self.followed = set()
        self.sent = []
        self.closed = False
        self.renewed = 0

    def renew(self):
        self.renewed += 1

    async def run(self):
        while not self.reachable:
            await asyncio.sleep_ms(1)
        self.connected = True
        self.connects += 1
        self.on_connect()
        await asyncio.Event().wait()

    def publish(self, topic, payload, retain=False, qos=0):
        self.sent.append((topic, payload, retain))

    async def publish_acked(self, topic, payload, retain=False, timeout_ms=0):
        if not self.connected:
            return False
        self.publish(topic, payload, retain)
        return self.acknowledge

    def follow(self, topic, wanted):
        (self.followed.add if wanted else self.followed.discard)(topic)

    def close(self):
        self.closed = True
        self.sent.append("closed")

    def count(self, name):
        return len([entry for entry in self.sent if entry[0] == "gatehouse/gh-1/" + name])


class Wifi:
    @staticmethod
    async def run(boot):
        await asyncio.Event().wait()

    @staticmethod
    async def wait(boot, application):
        await asyncio.Event().wait()


class Installer:
    """Answers offers from `answers`: True for due, else the state and reason of a refusal."""

    def __init__(self, boot, on_change):
        self.on_change = on_change
        self.offered = []
        self.answers = {}
        self.refused = None
        self.confirmations = 0
        self.may = False  # what the policy says of the offers that it holds back
        self.held = []
        self.known = []
        self.approved = []
        self.again = False
        self.state = {
            "state": "idle",
            "reason": None,
            "detail": "",
            "digest": b"",
            "sequence": 0,
            "done": 0,
            "total": 0,
        }

    def approve(self, step):
        self.approved.append(step)
        return True

    def confirmed(self):
        self.confirmations += 1
        self.on_change()

    def ready(self, data):
        return self.may if data in self.held else None

    def knows(self, data):
        return data in self.known

    async def offer(self, data):
        self.offered.append(data)
        self.again = False
        if data in self.held:
            self.held.remove(data)
        answers = self.answers.get(data, [None])
        answer = answers.pop(0) if len(answers) > 1 else answers[0]
        if answer is True or answer is None:
            return answer is True
        self.state["state"] = answer
        if answer in ("available", "downloaded"):
            self.held.append(data)
            return False
        self.again = answer == "failed"
        self.refused = {"reason": "x", "digest": b"", "sequence": 0, "count": 1, "detail": ""}
        return False


class Module:
    pass


def application(boot):
    """The application with all that is around it replaced, and its times shortened."""
    sys.modules["network"], sys.modules["esp32"] = Network, Esp32
    import gatehouse

    for name in ("link", "installer", "wifi"):
        module = Module()
        sys.modules["gatehouse." + name] = module
        setattr(gatehouse, name, module)
    gatehouse.link.for_device = Link
    gatehouse.installer.Installer = Installer
    gatehouse.wifi.run, gatehouse.wifi.losses = Wifi.run, 0
    from gatehouse import offers

    waits = offers.Offers
    waits.GATHER_MS, waits.WAY_MS, waits.PAUSE_MS, waits.FIRST_RETRY_MS, waits.LOOK_MS = 1, 0, 0, 1, 30000
    sys.modules.pop("app", None)
    import app

    app.doors.run = Wifi.wait  # test_doors.py has its own

    class Quick(app.Application):
        BEAT_MS = 1
        COALESCE_MS = 1

    return Quick(boot)


def boot_of(mode):
    fake_boot.slot()
    Esp32.value = 21
    return fake_boot.Boot(mode)


async def until(predicate, what):
    """Run until `predicate()` holds."""
    for _ in range(2000):
        if predicate():
            return
        await asyncio.sleep_ms(1)
    raise AssertionError("never: " + what)


async def some_time():
    """So long that what should not happen would have happened many times over."""
    for _ in range(60):
        await asyncio.sleep_ms(1)


def running(application):
    return asyncio.create_task(application.main())


# Health.


async def test_trial_confirms_once_it_has_sensed_connected_and_reported():
    boot = boot_of("trial")
    app = application(boot)
    task = running(app)
    await until(lambda: boot.confirms, "confirm")
    await some_time()
    assert (boot.confirms, app.installer.confirmations) == (1, 1)
    assert app.link.count("report") >= 2  # the confirmation is news
    task.cancel()


async def test_trial_without_acknowledgement_does_not_confirm():
    boot = boot_of("trial")
    app = application(boot)
    app.link.acknowledge = False
    task = running(app)
    await until(lambda: app.link.count("report"), "report")
    await some_time()
    assert not boot.confirms
    task.cancel()


async def test_trial_without_broker_does_not_confirm():
    boot = boot_of("trial")
    app = application(boot)
    app.link.reachable = False
    task = running(app)
    await until(lambda: app.link.count("sensor"), "reading")
    await some_time()
    assert not boot.confirms
    assert not app.link.count("report")
    app.link.reachable = True
    await until(lambda: boot.confirms, "confirm")
    task.cancel()


async def test_trial_with_a_sensor_fault_does_not_confirm():
    boot = boot_of("trial")
    boot.config.sensor_s = 0
    app = application(boot)
    Esp32.value = OSError(5)
    task = running(app)
    await until(lambda: app.acknowledged, "report")
    await some_time()
    assert not boot.confirms
    Esp32.value = 20
    await until(lambda: boot.confirms, "confirm")
    task.cancel()


async def test_active_release_gives_one_sign_of_health_after_a_while():
    boot = boot_of("active")
    app = application(boot)
    app.ALIVE_BEATS = 5
    task = running(app)
    await until(lambda: boot.fed >= 3, "feeding")
    assert not boot.signs
    await until(lambda: boot.signs, "sign of health")
    await some_time()
    assert (boot.signs, boot.confirms) == (1, 0)
    task.cancel()


# A service that fails ends all.


async def test_an_exception_in_a_service_ends_the_application():
    app = application(boot_of("active"))

    async def broken():
        await asyncio.sleep_ms(2)
        raise ValueError("broken service")

    for service in ("sense", "tell", "update", "beat"):
        setattr(app, service, broken)
        with raises(ValueError, "broken service"):
            await asyncio.wait_for_ms(app.main(), 2000)


async def test_an_exception_in_the_access_control_ends_the_application():
    made = application(boot_of("active"))
    import app

    async def broken(boot, application):
        assert boot is made.boot and application is made
        raise ValueError("broken door")

    app.doors.run = broken
    with raises(ValueError, "broken door"):
        await asyncio.wait_for_ms(made.main(), 2000)


async def test_a_postponed_update_waits_and_goes_on():
    made = application(boot_of("active"))
    made.postpone(1000)
    task = running(made)
    made.offers.put(b"offer")
    await some_time()
    assert not made.installer.offered
    made.postpone(0)
    await until(lambda: made.installer.offered, "offer")
    task.cancel()


async def test_an_unexpected_error_of_the_sensor_is_not_swallowed():
    app = application(boot_of("active"))
    Esp32.value = ValueError("a mistake in the driver")
    with raises(ValueError, "a mistake in the driver"):
        await asyncio.wait_for_ms(app.main(), 2000)


def test_run_lets_it_through():
    boot = boot_of("active")
    application(boot)
    import app

    Esp32.value = ValueError("a mistake in the driver")
    with raises(ValueError, "a mistake in the driver"):
        app.run(boot)


# Reports.


async def test_first_report_follows_the_connect_and_is_retained():
    app = application(boot_of("active"))
    task = running(app)
    await until(lambda: app.link.count("summary"), "summary")
    published = {entry[0]: entry for entry in app.link.sent}
    assert published["gatehouse/gh-1/report"][1][:2] == b"\xd8\x3d"
    assert published["gatehouse/gh-1/report"][2] is True
    assert published["gatehouse/gh-1/summary"][2] is True
    assert published["gatehouse/gh-1/sensor"][2] is False
    task.cancel()


async def test_changes_that_come_together_make_one_report():
    app = application(boot_of("active"))
    app.COALESCE_MS = 100  # over what ten turns take on a busy machine
    task = running(app)
    await until(lambda: app.link.count("report") == 1, "first report")
    for _ in range(10):
        app.changed.set()
        await asyncio.sleep_ms(1)
    await until(lambda: app.link.count("report") == 2, "second report")
    await asyncio.sleep_ms(300)
    assert app.link.count("report") == 2
    task.cancel()


async def test_heartbeat_report_without_a_change():
    boot = boot_of("active")
    boot.config.report_s = 0
    app = application(boot)
    task = running(app)
    await until(lambda: app.link.count("report") >= 3, "three reports")
    task.cancel()


def without_memory(report, times):
    left = [times]

    def seal(*arguments):
        if left[0]:
            left[0] -= 1
            raise MemoryError
        return report(*arguments)

    return seal


async def test_report_that_finds_no_memory_comes_later():
    boot = boot_of("active")
    app = application(boot)
    app.reporter.report = without_memory(app.reporter.report, 9)
    task = running(app)
    await until(lambda: app.link.count("report"), "report")
    assert app.untold == 0 and app.reporter.left_out == 9
    app.reporter.report = without_memory(app.reporter.report, 9)
    app.changed.set()
    await until(lambda: app.link.count("report") > 1, "report after nine more")
    task.cancel()


async def test_ten_reports_without_memory_are_a_fault():
    boot = boot_of("active")
    app = application(boot)
    app.reporter.report = without_memory(app.reporter.report, 10)
    with raises(MemoryError):
        await asyncio.wait_for(running(app), 5)


async def test_sensor_fault_and_its_end_are_reported():
    from gatehouse import cbor

    boot = boot_of("active")
    boot.config.sensor_s = 0
    app = application(boot)
    task = running(app)

    def health():
        for entry in reversed(app.link.sent):
            if entry[0] == "gatehouse/gh-1/report":
                return cbor.loads(cbor.loads(entry[1]).value.value[2])[-70001][17]
        return None

    await until(lambda: health() == [], "healthy report")
    Esp32.value = OSError(5)
    await until(lambda: health() == ["sensor"], "report of the fault")
    Esp32.value = 22
    await until(lambda: health() == [], "report of its end")
    for value in (float("nan"), float("inf"), -float("inf")):  # no verifier takes a report that says one
        app.reporter.sensor.read = lambda told=value: told
        await until(lambda: health() == ["sensor"] and app.reporter.value is None, "report of the reading that is none")
        app.reporter.sensor.read = lambda: -0.5
        await until(lambda: health() == [] and app.reporter.value == -0.5, "report of its end")
    task.cancel()


# The journal.


async def test_journal_is_sent_and_asked_for():
    boot = boot_of("active")
    app = application(boot)
    asked = []
    app.events.received = asked.append
    app.events.LOOK_MS = 1

    async def step():
        app.link.publish("gatehouse/gh-1/journal", b"x")

    app.events._step = step
    task = running(app)
    await until(lambda: app.link.count("journal"), "journal")
    app.link.on_message(b"gatehouse/gh-1/journal/ack", b"\0")
    app.link.on_message(b"gatehouse/gh-1/offer", b"")
    assert asked == [b"\0"]
    task.cancel()


# Offers.


def envelope(sequence, filler=b""):
    from gatehouse import cbor

    return cbor.dumps(cbor.Tag(107, {2: filler, 3: cbor.dumps({1: 1, 2: sequence, 3: b""})}))


async def test_only_offers_go_to_the_installer():
    app = application(boot_of("active"))
    task = running(app)
    await until(lambda: app.link.connected, "connect")
    app.link.on_message(b"gatehouse/gh-1/command", b"x")
    app.link.on_message(b"gatehouse/gh-1/offer", b"")  # taken away
    app.link.on_message(b"gatehouse/group/all/offer", envelope(2))
    app.link.on_message(b"gatehouse/gh-1/offer", envelope(1))
    await until(lambda: len(app.installer.offered) == 2, "two offers")
    await some_time()
    assert app.installer.offered == [envelope(2), envelope(1)]  # highest first
    task.cancel()


async def test_commands_reach_who_takes_them_while_the_policy_wants():
    boot = boot_of("active")
    app = application(boot)
    assert app.link.followed == {"gatehouse/gh-1/command", JOURNAL}  # before the first connect
    task = asyncio.create_task(sys.modules["access.doors"]._serve("mqtt-commands", boot, app, app.access, lambda: None))
    await until(lambda: app.access.remote, "commands")
    taken = []
    app.access.remote.received = taken.append
    app.link.on_message(b"gatehouse/gh-1/command", b"x")
    app.link.on_message(b"gatehouse/gh-1/offer", b"")
    assert taken == [b"x"]
    task.cancel()


async def test_commands_end_with_the_policy_that_wants_them():
    from access import doors

    boot = boot_of("active")
    app = application(boot)
    task = asyncio.create_task(doors._serve("mqtt-commands", boot, app, app.access, lambda: None))
    await until(lambda: app.access.remote, "commands")
    task.cancel()
    await until(lambda: app.access.remote is None, "end of commands")
    assert app.link.followed == {JOURNAL}
    app.link.on_message(b"gatehouse/gh-1/command", b"x")


async def test_no_commands_where_the_policy_wants_none():
    boot = boot_of("active")
    boot.config.interfaces = ("uart",)
    app = application(boot)
    task = running(app)
    await until(lambda: app.link.count("report"), "first report")
    assert app.link.followed == {JOURNAL} and app.access.remote is None
    app.link.on_message(b"gatehouse/gh-1/command", b"x")
    task.cancel()


def nonces(app):
    """The nonces that the reports so far have answered."""
    from gatehouse import cbor

    sent = [entry[1] for entry in app.link.sent if entry[0] == "gatehouse/gh-1/report"]
    return [cbor.loads(cbor.loads(data).value.value[2]).get(10) for data in sent]


async def test_each_nonce_is_answered_by_a_report():
    app = application(boot_of("active"))
    task = running(app)
    await until(lambda: app.link.count("report"), "first report")
    assert nonces(app) == [None]
    for bogus in (b"", b"7 bytes", b"x" * 65):
        app.link.on_message(b"gatehouse/gh-1/nonce", bogus)
    await some_time()
    assert len(nonces(app)) == 1
    app.link.on_message(b"gatehouse/gh-1/nonce", b"first one")
    app.link.on_message(b"gatehouse/gh-1/nonce", memoryview(b"second one"))
    await until(lambda: len(nonces(app)) == 3, "two answers")
    await some_time()
    assert nonces(app) == [None, b"first one", b"second one"]
    task.cancel()


async def test_nonce_waits_for_a_report_that_the_broker_has():
    app = application(boot_of("active"))
    app.link.acknowledge = False
    task = running(app)
    await until(lambda: app.link.count("report"), "first report")
    app.link.on_message(b"gatehouse/gh-1/nonce", b"the nonce")
    await until(lambda: b"the nonce" in nonces(app), "answer")
    app.link.acknowledge = True
    app.changed.set()
    await until(lambda: nonces(app).count(b"the nonce") == 2, "answer again")
    app.changed.set()
    await until(lambda: nonces(app)[-1] is None, "report without it")
    task.cancel()


async def test_flood_of_nonces_is_a_bounded_number_of_reports():
    app = application(boot_of("active"))
    task = running(app)
    await until(lambda: app.link.count("report"), "first report")
    for number in range(1000):
        app.link.on_message(b"gatehouse/gh-1/nonce", b"flood %04d" % number)
    await until(lambda: len(nonces(app)) == 5, "four answers")
    await some_time()
    assert len(nonces(app)) == 5
    task.cancel()


async def test_postponement_and_open_repl_are_told():
    from gatehouse import cbor, status

    app = application(boot_of("active"))

    def claims():
        return cbor.loads(cbor.loads(app.reporter.report()).value.value[2])

    assert 6 not in claims()[-70001][20] and 263 not in claims()
    app.postpone(1000)
    assert 990 < claims()[-70001][20][6] <= 1000
    status._fuses = [False, False, False, False]
    assert claims()[263] == 1
    app.access.operations.repl_left = lambda: 30
    assert claims()[263] == 0


async def test_due_update_is_reported_before_the_restart():
    boot = boot_of("active")
    app = application(boot)
    app.installer.answers[envelope(2)] = [True]
    task = running(app)
    await until(lambda: app.link.count("report"), "first report")
    app.link.sent = []
    order = []
    boot.restart = lambda: order.append(list(app.link.sent))
    app.link.on_message(b"gatehouse/gh-1/offer", envelope(2))
    await until(lambda: order, "restart")
    sent = [entry if entry == "closed" else entry[0] for entry in order[0]]
    assert sent == ["gatehouse/gh-1/report", "gatehouse/gh-1/summary", "closed"]
    task.cancel()


async def test_wanted_restart_is_a_sign_of_health_once_the_broker_has_the_report():
    boot = boot_of("active")
    for acknowledge in (True, False):
        boot.signs = boot.restarts = 0
        app = application(boot)
        app.link.acknowledge = acknowledge
        task, count = running(app), app.link.count
        await until(lambda count=count: count("report"), "first report")
        assert not boot.signs
        await app.leave()
        assert (boot.signs, boot.restarts) == (int(acknowledge), 1)
        task.cancel()


async def test_failed_offer_comes_again_and_refused_one_does_not():
    app = application(boot_of("active"))
    app.installer.answers[envelope(2)] = ["failed", "failed", None]
    app.installer.answers[envelope(1)] = ["refused"]
    task = running(app)
    app.link.on_message(b"gatehouse/gh-1/offer", envelope(2))
    app.link.on_message(b"gatehouse/group/all/offer", envelope(1))
    await until(lambda: app.installer.offered.count(envelope(2)) == 3, "third try")
    await some_time()
    assert app.installer.offered.count(envelope(2)) == 3
    assert app.installer.offered.count(envelope(1)) == 1
    task.cancel()


async def test_offer_that_the_policy_holds_back_comes_again_when_it_may():
    app = application(boot_of("active"))
    app.offers.LOOK_MS = 1
    app.installer.answers[envelope(2)] = ["available", "downloaded", None]
    task = running(app)
    app.link.on_message(b"gatehouse/gh-1/offer", envelope(2))
    await until(lambda: app.installer.offered, "offer")
    await some_time()
    assert len(app.installer.offered) == 1
    app.installer.may = True
    await until(lambda: len(app.installer.offered) == 3, "the same offer again, and again")
    task.cancel()


async def test_newest_offer_of_a_topic_takes_the_place_of_those_before():
    boot = boot_of("trial")
    app = application(boot)
    app.link.acknowledge = False
    task = running(app)
    for sequence in range(1000):
        app.link.on_message(b"gatehouse/gh-1/offer", envelope(9000 + sequence))
    app.link.on_message(b"gatehouse/gh-1/offer", envelope(2))
    app.link.on_message(b"gatehouse/group/all/offer", envelope(1))
    assert len(app.offers) == 2
    app.link.acknowledge = True
    app.changed.set()
    await until(lambda: len(app.installer.offered) == 2, "both")
    assert app.installer.offered == [envelope(2), envelope(1)]
    task.cancel()


async def test_clock_that_gets_set_is_reported_and_brings_a_failed_offer_back():
    boot = boot_of("active")
    boot.clock = None
    app = application(boot)
    app.offers.FIRST_RETRY_MS = 60000
    app.installer.answers[envelope(2)] = ["failed", None]
    task = running(app)
    app.link.on_message(b"gatehouse/gh-1/offer", envelope(2))
    await until(lambda: len(app.installer.offered) == 1 and app.link.count("report"), "first try")
    await some_time()
    assert len(app.installer.offered) == 1
    reports = app.link.count("report")
    boot.clock = 1_800_000_000
    await until(lambda: len(app.installer.offered) == 2, "second try")
    await until(lambda: app.link.count("report") > reports, "report")
    task.cancel()


async def test_state_of_an_earlier_failure_does_not_bring_an_offer_back():
    app = application(boot_of("active"))
    app.installer.state["state"] = "failed"
    task = running(app)
    app.link.on_message(b"gatehouse/gh-1/offer", envelope(2))  # already there: nothing changes
    await until(lambda: app.installer.offered, "offer")
    await some_time()
    assert len(app.installer.offered) == 1
    task.cancel()


async def test_release_on_trial_takes_no_offer_before_it_confirmed():
    boot = boot_of("trial")
    app = application(boot)
    app.link.acknowledge = False
    task = running(app)
    app.link.on_message(b"gatehouse/gh-1/offer", envelope(2))
    await some_time()
    assert not app.installer.offered
    app.link.acknowledge = True
    app.changed.set()
    await until(lambda: app.installer.offered, "offer after the confirmation")
    assert boot.confirms == 1
    task.cancel()


# The sensor.


def test_sensor_of_both_chip_families():
    sys.modules["esp32"] = Esp32
    Esp32.value = 21
    import sensor

    assert sensor.Sensor().read() == 21

    class First:
        @staticmethod
        def raw_temperature():
            return 70

    sensor.esp32 = First
    assert abs(sensor.Sensor().read() - 21.11) < 0.01
    sensor.esp32 = Esp32
    for wrong in (-41, 126):
        Esp32.value = wrong
        with raises(OSError):
            sensor.Sensor().read()
