"""The network between machines: it delays, drops, doubles, reorders and cuts, as the weather says.

Messages cross it as the frames that would cross a socket, so that encoding and strict decoding are part of every run.
It is rougher than TCP: messages of one pair overtake one another. A core that keeps its promises here keeps them there.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from random import Random

from common import messages as m
from common import wire
from tests.simulation.world import World

Receive = Callable[[list[bytes]], None]


@dataclass(slots=True)
class Weather:
    """How bad it is, until the storm is over. Chances are per message, times in seconds."""

    latency: float = 0.01
    drop: float = 0.0
    double: float = 0.0
    slow: float = 0.0
    """Chance of a delay of up to `slowest`."""
    slowest: float = 25.0

    @classmethod
    def draw(cls, random: Random) -> Weather:
        """Any weather there is."""
        return cls(
            latency=random.choice((0.001, 0.02, 0.3)),
            drop=random.choice((0.0, 0.0, 0.02, 0.1, 0.3)),
            double=random.choice((0.0, 0.0, 0.05, 0.3)),
            slow=random.choice((0.0, 0.02, 0.1, 0.3)),
            slowest=random.choice((2.0, 25.0)),
        )


class Network:
    """Between machines, which it knows by name."""

    def __init__(self, world: World, weather: Weather) -> None:
        self._world = world
        self._random = world.random
        self.weather = weather
        self._cuts: dict[tuple[str, str], tuple[float, bool]] = {}
        self.sent = 0
        self.lost = 0
        self.doubled = 0

    def send(
        self, source: str, target: str, message: m.Message, body: bytes, receive: Receive, to: str = ""
    ) -> None:
        """Give a message to the network. `to`: who it is for, where the machine's name does not say it."""
        header = wire.encode(message)
        frames = [header, body] if body else [header]
        told = Told(to or target, message)
        self._world.tell(source, "sends", told, header + body[:64])
        self.sent += 1
        weather, random = self.weather, self._random
        if weather.drop and random.random() < weather.drop:
            self.lost += 1
            self._world.tell("network", "drops", told, header)
            return
        copies = 1
        if weather.double and random.random() < weather.double:
            copies = 2
            self.doubled += 1
        held = 0.0
        cut = self._cuts.get((source, target))
        if cut is not None and cut[0] > self._world.now:
            if not cut[1]:
                self.lost += 1
                self._world.tell("network", "cuts off", told, header)
                return
            held = cut[0] - self._world.now
        for _ in range(copies):
            delay = random.expovariate(1.0 / weather.latency)
            if weather.slow and random.random() < weather.slow:
                delay += random.uniform(0.0, weather.slowest)

            def deliver() -> None:
                self._world.tell(target, "receives", told, frames[0])
                receive(list(frames))

            self._world.after(held + delay, deliver)

    def cut(self, one: str, other: str, seconds: float, *, hold: bool) -> None:
        """Nothing passes between the two for a while; `hold`: what is sent meanwhile passes afterwards."""
        self._world.tell("network", "cut", f"{one} - {other} for {seconds:.1f} s, hold={hold}")
        until = self._world.now + seconds
        self._cuts[one, other] = self._cuts[other, one] = (until, hold)

    def calm(self) -> None:
        """The storm is over."""
        self.weather = Weather(latency=self.weather.latency)
        self._cuts.clear()


@dataclass(frozen=True, slots=True)
class Told:
    """A message on its way, made into text only when somebody reads the story."""

    to: str
    message: m.Message

    def __str__(self) -> str:
        return f"{self.to}: {tell(self.message)}"


def tell(message: m.Message) -> str:
    """A message in one line, for the story of a run."""
    name = type(message).__name__
    match message:
        case m.Lease():
            urls = " ".join(request.url for request in message.requests)
            rules = " ".join(f"{each.authority}={each.verdict}" for each in message.robots)
            return (
                f"Lease {m.lease_name(message.id)} n={message.number} delay={message.delay} lanes={message.lanes} "
                f"[{urls}] {rules}"
            )
        case m.Heartbeat():
            held = " ".join(map(m.lease_name, message.leases))
            return f"Heartbeat n={message.number} epoch={message.epoch} holds [{held}] credit {message.lanes}/{message.requests}"
        case m.Hello():
            held = " ".join(map(m.lease_name, message.leases))
            dead = " ".join(each.hex()[:6] for each in message.replaces)
            return f"Hello n={message.number} holds [{held}] replaces [{dead}]"
        case m.Alive():
            unknown = " ".join(map(m.lease_name, message.unknown))
            released = " ".join(map(m.lease_name, message.released))
            return (
                f"Alive n={message.number} epoch={message.epoch} unknown [{unknown}] released [{released}] "
                f"phase={message.phase}"
            )
        case m.Release():
            return f"Release n={message.number} {m.lease_name(message.lease)} age={message.age}"
        case m.Page():
            links = " ".join(url for group in message.links for url in group.urls)
            return (
                f"Page #{message.number} {m.lease_name(message.lease)}.{message.ordinal} age={message.age} "
                f"outcome={message.facts.outcome} pieces={message.pieces} links [{links}]"
            )
        case m.Piece():
            return f"Piece #{message.number} {m.lease_name(message.lease)}.{message.ordinal} index={message.index}"
        case m.FilePiece():
            return (
                f"FilePiece #{message.number} {m.lease_name(message.lease)}.{message.ordinal} "
                f"index={message.index} began={message.began} first={message.first}"
            )
        case m.Links():
            links = " ".join(url for group in message.groups for url in group.urls)
            return f"Links #{message.number} [{links}]"
        case m.Robots():
            return (
                f"Robots #{message.number} {m.lease_name(message.lease)} {message.authority} {message.verdict} "
                f"age={message.age}"
            )
        case m.Welcome():
            return f"Welcome n={message.number} shard={message.shard} epoch={message.epoch} store={message.store} scope v{message.scope_version}"
        case m.Answer():
            return f"Answer accepted {list(message.accepted)} refused {list(message.refused)}"
        case m.Terms():
            return f"Terms v{message.scope_version}"
        case m.HelloAgain() | m.Denied() | m.Goodbye():
            return name
    return repr(message)
