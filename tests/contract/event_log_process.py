"""Another process for the event log contract: does what its arguments say, tells it on stdout, a
line a fact, and stays until its stdin ends or it is killed.

    python event_log_process.py PROFILE WHERE COMMAND ARGUMENT...
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

from paytm_lab.backends.embedded.event_log import EmbeddedEventLog
from paytm_lab.backends.servers import kafka_consumer
from paytm_lab.backends.servers.event_log import KafkaEventLog
from paytm_lab.config import PREFIX
from paytm_lab.ports.event_log import EventLog, Message, TopicPartition

SESSION = f"{PREFIX}KAFKA_SESSION_S"


def open_event_log(profile: str, where: str) -> EventLog:
    """``where`` is a folder, or servers and namespace as in "host:port,host:port/namespace"."""
    if profile == "embedded":
        return EmbeddedEventLog(Path(where))
    return _open_on_servers(where)


def _open_on_servers(where: str) -> KafkaEventLog:
    servers, _, namespace = where.partition("/")
    session_s = float(os.environ.get(SESSION, kafka_consumer.SESSION_S))
    return KafkaEventLog(servers, prefix=namespace, session_s=session_s)


def remove(where: str) -> None:
    """What was made on the servers; their names do not come again, so nobody waits for that."""
    log = _open_on_servers(where)
    try:
        log.drop(wait=False)
    finally:
        log.close()


def say(text: object) -> None:
    os.write(sys.stdout.fileno(), f"{text}\n".encode())


def append(log: EventLog, topic: str, name: str, count: str) -> None:
    """Append ``count`` messages under ``count // 10`` keys, in batches of seven."""
    numbers = range(int(count))
    for start in range(0, len(numbers), 7):
        log.append(
            [
                Message(topic, f"{name}-{i % max(1, len(numbers) // 10)}", f"{name}:{i}".encode())
                for i in numbers[start : start + 7]
            ]
        )
    say("appended")


def append_on(log: EventLog, topic: str) -> None:
    """Append without end; say each number once it is acknowledged."""
    number = 0
    while True:
        log.append([Message(topic, str(number), str(number).encode())])
        say(number)
        number += 1


def consume(log: EventLog, group: str, topic: str, mode: str) -> None:
    """Say each record, then commit (mode ``commit``), or hang before the commit (``hang``)."""
    consumer = log.consumer(group, [topic])
    say("joined")
    while True:
        records = consumer.poll(10, 0.2)
        if not records:
            continue
        for record in records:
            say(f"{record.partition} {record.offset} {record.value.decode()}")
        if mode == "hang":
            say("handled")
            sys.stdin.read()
        consumer.commit({TopicPartition(r.topic, r.partition): r.offset + 1 for r in records})
        say("committed")


if __name__ == "__main__":
    profile, where, command, *arguments = sys.argv[1:]
    commands = {f.__name__: f for f in (append, append_on, consume)}
    commands[command](open_event_log(profile, where), *arguments)
