"""The built-in broker: amqtt, closed where it is open. Run as `python -m gatehouse_tools.amqtt_broker CONFIG.json`.

What amqtt 0.12 leaves open, each with its test in tests/host/test_broker.py:
- a client certificate is optional;
- the user name is what the client says, not who its certificate names;
- a session is found by client id before the client is authenticated, so anyone could end or take over anyone's;
- a last will is published without asking the access list;
- a new client gets the retained messages of every subscription that anybody has.
"""

import asyncio
import itertools
import json
import logging
import os
import signal
import ssl
import sys
from pathlib import Path
from typing import Any

import amqtt.broker
from amqtt.adapters import ReaderAdapter, WriterAdapter
from amqtt.contexts import Action, ListenerConfig
from amqtt.errors import BrokerError
from amqtt.mqtt.protocol.broker_handler import BrokerProtocolHandler
from amqtt.plugins.base import BaseAuthPlugin, BaseTopicPlugin
from amqtt.session import Session

from . import topics

# What Broker below replaces. Should a release of amqtt rename one, its own open form would be back: refuse to run.
_REPLACED = ("_create_ssl_context", "_topic_filtering", "_publish_retained_messages_for_subscription")


def common_name(tls: ssl.SSLObject | None) -> str | None:
    """The common name of the client's verified certificate, if it is a name that this product gives."""
    certificate = tls.getpeercert() if tls else None
    subject: Any = (certificate or {}).get("subject", ())
    for name, value in itertools.chain(*subject):
        own = (topics.HOST, topics.HOME_ASSISTANT, topics.VERIFIER)
        if name == "commonName" and (value in own or topics.is_device_id(value)):
            return value
    return None


def may(session: Session | None, topic: str | None, action: Action | None) -> bool:
    """The access list. A filter is granted only if all that it matches is."""
    name = session.username if session else None
    if not name or not topic or action is None:
        return False
    root = topic.split("/")[0]
    if name == topics.HOST:
        return root in ("gatehouse", topics.DISCOVERY)
    access = "write" if action == Action.PUBLISH else "read"
    rules = topics.verifier_rules() if name == topics.VERIFIER else topics.device_rules(name)
    if name == topics.HOME_ASSISTANT:
        rules = topics.home_assistant_rules()
        if access == "read" and root == topics.DISCOVERY:
            return True
    return any(kind == access and topics.covers(rule, topic) for kind, rule in rules)


class Access(BaseAuthPlugin, BaseTopicPlugin):
    """amqtt's own way to ask: who may connect, and with which topics."""

    async def authenticate(self, *, session: Session) -> bool | None:
        # The name and the client id are Handler's work; were it not called, nobody gets in.
        name = common_name(session.ssl_object)
        if not name or session.username != name or not (session.client_id or "").startswith(name + "/"):
            return False
        return not session.will_flag or may(session, session.will_topic, Action.PUBLISH)

    async def topic_filtering(
        self, *, session: Session | None = None, topic: str | None = None, action: Action | None = None
    ) -> bool | None:
        return may(session, topic, action)


class Handler(BrokerProtocolHandler):
    """Names a connection by its certificate before amqtt looks for the session that belongs to it."""

    @classmethod
    async def init_from_connect(
        cls, reader: ReaderAdapter, writer: WriterAdapter, plugins_manager: Any, loop: Any = None
    ) -> tuple[BrokerProtocolHandler, Session]:
        handler, session = await super().init_from_connect(reader, writer, plugins_manager, loop)
        session.username = common_name(session.ssl_object)
        # A client id counts within its certificate's name only.
        session.client_id = f"{session.username}/{session.client_id}"
        return handler, session


class Broker(amqtt.broker.Broker):
    """amqtt's broker with a certificate from everyone, and nothing delivered that was not asked for."""

    @staticmethod
    def _create_ssl_context(listener: ListenerConfig) -> ssl.SSLContext:
        context = amqtt.broker.Broker._create_ssl_context(listener)
        context.verify_mode = ssl.CERT_REQUIRED
        return context

    async def _topic_filtering(self, session: Session, topic: str, action: Action) -> bool:
        # Without a task for each plugin: amqtt walks its table of subscriptions while it waits for them, and loses the
        # message when another client subscribes meanwhile.
        return may(session, topic, action)

    async def _publish_retained_messages_for_subscription(
        self, subscription: tuple[str, int], session: Session
    ) -> None:
        holders = self._subscriptions.get(subscription[0], [])
        if any(holder.client_id == session.client_id for holder, _ in holders):
            await super()._publish_retained_messages_for_subscription(subscription, session)


def listeners(settings: dict[str, Any]) -> dict[str, Any]:
    """amqtt's listeners for what broker.py wrote."""
    tls = {"ssl": True, "cafile": settings["ca"], "certfile": settings["cert"], "keyfile": settings["key"]}
    found = {"default": {"type": "tcp", "bind": f"{settings['host']}:{settings['port']}", **tls}}
    if settings["websockets"]:
        found["websockets"] = {"type": "ws", "bind": f"{settings['host']}:{settings['websockets']}", **tls}
    return found


async def serve(settings: dict[str, Any]) -> None:
    """Run until SIGTERM, or until the process that started us is gone and our standard input ends."""
    missing = [name for name in _REPLACED if not hasattr(amqtt.broker.Broker, name)]
    if missing or not hasattr(amqtt.broker, "BrokerProtocolHandler"):
        raise BrokerError(f"this release of amqtt is too different: it has no {', '.join(missing) or 'handler'}")
    amqtt.broker.BrokerProtocolHandler = Handler
    plugin = f"{Access.__module__}.{Access.__name__}"
    broker = Broker({"listeners": listeners(settings), "plugins": {plugin: {}}})
    await broker.start()
    loop = asyncio.get_running_loop()
    end = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, end.set)
    loop.add_reader(sys.stdin.fileno(), lambda: None if os.read(sys.stdin.fileno(), 1) else end.set())
    await end.wait()
    await broker.shutdown()


def main() -> int:
    logging.basicConfig(level=logging.ERROR, format="%(levelname)s %(message)s")
    try:
        asyncio.run(serve(json.loads(Path(sys.argv[1]).read_text())))
    except BrokerError as error:
        print(error, file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    # Under its own name, so that the plugin that amqtt imports is the class that stands here.
    from gatehouse_tools import amqtt_broker

    sys.exit(amqtt_broker.main())
