"""What a seed stands for: which features are used, what is published when, which faults come."""

from __future__ import annotations

import random
from dataclasses import dataclass, replace

FEATURES = (
    "plain",
    "ordered",
    "batch",
    "request",
    "thread",
    "paused",
    "stored",
    "storedbatch",
    "storedthread",
    "twins",
    "saga",
)
"""Kinds of handlers; a plan has some of them."""

STORED = ("stored", "storedbatch", "storedthread", "twins")
"""Those whose effects are in a store's transaction."""

TWINS = ("twina", "twinb")
"""Two queues that get each message of an exchange; their handlers have one name, and one store."""

SAGA_QUEUES = ("saga", "sagaask", "sagaanswer", "sagatimeout", "sagaundo")

ATTEMPTS = 4
"""Of every handler's policy."""

WAIT = 0.3
"""Seconds between two attempts."""

PARTITIONS = 2
"""Of the queue whose handler keeps an order."""

TIMEOUT = 1.5
"""Seconds that a run may take."""

SCRIPTS = {
    "ok": 60,
    "fail 1": 12,
    "fail 2": 6,
    "later": 4,
    "slow": 4,
    "dead": 6,
    "reject": 4,
    "abort": 4,
}
"""What a handler does for a message, and how often that is drawn."""

OF_PLAIN = {"internal": 10, "unsettled": 8}
"""Scripts by which mqkit itself fails, before the handler runs and after it."""

ENDS_DEAD = ("dead", "reject", "internal", "unsettled")

FAULTS = {
    "kill service": 10,
    "kill broker": 8,
    "kill publisher": 4,
    "stop service": 6,
    "stop broker": 3,
    "partition": 4,
    "one way": 4,
    "slow": 4,
    "reset": 6,
    "close connections": 4,
    "close channel": 6,
    "cancel consumers": 4,
    "delete queue": 2,
    "alarm": 3,
    "clock jumps": 4,
    "disk full": 3,
    "database locked": 3,
    "answer lost": 6,
    "commit fails": 6,
    "kill at commit": 8,
    "refused": 5,
    "dependency down": 8,
}
"""Kinds of faults, and how often they are drawn."""

HARMLESS = ("stop service", "clock jumps", "dependency down", "kill publisher")
"""Faults after which nothing is handled twice."""

OF_STORE = (
    "disk full",
    "database locked",
    "answer lost",
    "commit fails",
    "refused",
)
"""Faults after which nothing is, whose handler has no store."""

OF_FEATURE = {"dependency down": ("paused",)} | dict.fromkeys(
    (*OF_STORE, "kill at commit"),
    (*STORED, "saga"),
)
"""Faults that concern some features alone."""

EXPIRE = ("plain", "batch", "thread", "paused", "stored", "storedbatch")
"""Kinds of handlers whose messages may have a time after which they are not to be handled."""

EXPIRES = (0.01, 0.3, 1.0)
"""Seconds until then."""

OF_CROWDS = ("stored", "stored", "storedbatch", "batch", "plain", "plain", "storedthread")
"""Kinds of handlers that many messages come to at once, and how often each is drawn."""

IN_CROWDS = {"ok": 60, "fail 1": 20, "fail 2": 10, "dead": 6, "reject": 4}
"""As `SCRIPTS`, for those: failures of some among many that share a transaction."""

LATENCIES = ((0.0, 0.00005), (0.0001, 0.0005), (0.0002, 0.003), (0.005, 0.08))
"""Seconds, from and to; in the shortest one whatever happens meets whatever else does."""

DURATIONS = (0.0, 0.0, 0.0001, 0.01, 0.2)
"""Seconds that a handler takes."""

AGAIN = (0.0, 0.0, 0.1, 2.0)
"""Seconds until a message is published once more."""

FEW = 8
"""Commits of which one is drawn, for what happens at a commit."""

SPAN = 6.0
"""Seconds in which messages are published and faults begin."""


@dataclass(frozen=True)
class Send:
    """One message to publish."""

    name: str
    at: float
    feature: str
    script: str
    key: str | int | float = ""
    duration: float = 0.0
    """Seconds that its handler takes."""
    delay: float = 0.0
    """Seconds that the broker holds it."""
    expires: float | None = None
    """Seconds after which it is not worth handling."""
    many: bool = False
    """Whether it is one of those that are published together, where that may be."""
    again: float | None = None
    """Seconds after which it is published once more under its id, as one who doubts does."""

    @property
    def is_of_many(self) -> bool:
        """Whether it is published together with others."""
        return self.many and self.feature not in ("ordered", "request")


@dataclass(frozen=True)
class Fault:
    """One fault; `steps` is how many steps of the process it is about come before it."""

    at: float
    kind: str
    target: int = 0
    steps: int = 1
    seconds: float = 1.0
    """How long it lasts."""
    amount: float = 0.0
    """A delay, a jump: what there is more or less of."""


@dataclass(frozen=True)
class Plan:
    """Everything that a schedule does on purpose; the order of steps comes from `seed` as well."""

    seed: int
    features: tuple[str, ...]
    services: int = 1
    sends: tuple[Send, ...] = ()
    faults: tuple[Fault, ...] = ()
    late: float = 0.1
    latency: tuple[float, float] = (0.0002, 0.003)
    fragment: float = 0.0
    backlog: bool = False
    """Whether the services start after the messages were published."""
    concurrency: int = 3
    heartbeat: int = 4
    """Seconds."""
    driver: str = "aio-pika"
    shares: bool = True
    """Whether messages share a store's transaction."""
    drift: tuple[float, ...] = ()
    """How much faster than the time the wall clocks go: the broker's, then those of services."""

    @property
    def has_store(self) -> bool:
        """Whether its services have a store."""
        return any(each in (*STORED, "saga") for each in self.features)

    @property
    def is_slow(self) -> bool:
        """Whether a handler takes as long as a stop has time."""
        return any(each.script == "slow" for each in self.sends)

    @property
    def queues(self) -> set[str]:
        """The names of the queues that handlers consume."""
        plain = {each for each in self.features if each not in ("ordered", "twins")}
        if "twins" in self.features:
            plain |= set(TWINS)
        if "ordered" in self.features:
            plain |= {f"ordered.{number}" for number in range(PARTITIONS)}
        if "saga" in self.features:
            plain |= set(SAGA_QUEUES)
        return plain

    def without(self, *, send: int | None = None, fault: int | None = None) -> Plan:
        """Make the plan that lacks one message or fault."""
        if send is not None:
            return replace(self, sends=self.sends[:send] + self.sends[send + 1 :])
        assert fault is not None
        return replace(self, faults=self.faults[:fault] + self.faults[fault + 1 :])


def draw(seed: int) -> Plan:
    """Draw the plan of a seed."""
    rng = random.Random(f"plan {seed}")
    is_crowd = rng.random() < 0.2
    features = _features(rng, is_crowd=is_crowd)
    kinds = [each for each in FAULTS if rng.random() < 0.4]
    kinds = [
        each for each in kinds if any(one in features for one in OF_FEATURE.get(each, features))
    ]
    backlog = rng.random() < 0.3
    # Some plans are a burst: what is ready at the same time shares commits, and waits in lines.
    within = 0.02 if is_crowd or rng.random() < 0.3 else 0.5 if backlog else SPAN
    count = rng.randint(8, 20) if is_crowd else rng.randint(2, 10)
    sends = [_send(rng, number, features, within, is_crowd) for number in range(count)]
    if is_crowd and rng.random() < 0.3:
        kinds = ["stop service"]  # in the middle of everything, and nothing else explains much
    faults = _faults(rng, kinds, sends, backlog=backlog)
    if any(each.kind == "clock jumps" for each in faults):
        # What is published once more comes after the jump, when an inbox might have forgotten it.
        sends = [
            replace(each, again=AGAIN[-1] if _comes_again(rng, each) else None) for each in sends
        ]
    drifts = (0.0, 0.0, 0.0, 0.01, -0.01, 0.05)
    return Plan(
        seed,
        features,
        services=2 if "twins" in features else rng.choice((1, 1, 2)),
        sends=tuple(sorted(sends, key=lambda each: (each.at, each.name))),
        faults=tuple(sorted(faults, key=lambda each: each.at)),
        late=rng.choice((0.0, 0.05, 0.2, 0.5)),
        latency=rng.choice(LATENCIES),
        fragment=rng.choice((0.0, 0.0, 0.1)),
        backlog=backlog,
        concurrency=5 if is_crowd else rng.choice((1, 2, 5)),
        heartbeat=rng.choice((4, 8)),
        shares=rng.random() < 0.6,
        driver=rng.choice(("pika", "pika", "aio-pika")),
        drift=tuple(rng.choice(drifts) for _ in range(4)) if rng.random() < 0.2 else (),
    )


def _features(rng: random.Random, *, is_crowd: bool) -> tuple[str, ...]:
    """Draw a part of them; a crowd is of one kind, so that many of a queue come together."""
    if is_crowd:
        return (rng.choice(OF_CROWDS),)
    return tuple(each for each in FEATURES if rng.random() < 0.2) or (rng.choice(FEATURES),)


def _send(
    rng: random.Random,
    number: int,
    features: tuple[str, ...],
    within: float,
    is_crowd: bool,
) -> Send:
    feature = rng.choice(features)
    scripts = SCRIPTS | OF_PLAIN if feature == "plain" else IN_CROWDS if is_crowd else SCRIPTS
    script = rng.choices(list(scripts), list(scripts.values()))[0]
    # A delay would change the order that is to be kept, and a request has none.
    delay = rng.choice((0.0, 0.0, 0.0, 0.5)) if feature not in ("ordered", "request") else 0.0
    many = rng.random() < 0.15
    twice = rng.random() < 0.2 and feature != "request" and not many
    expires = feature in EXPIRE and not delay and not twice and rng.random() < 0.15
    return Send(
        name=f"m{number}",
        at=round(0.5 + rng.random() * within, 3),
        feature=feature,
        script=script,
        # 1 and 1.0 are one key, in one partition.
        key=rng.choice(("a", "b", 1, 1.0)) if feature == "ordered" else rng.choice("abc"),
        duration=rng.choice((0.0, 0.0, 0.0001, 0.01) if is_crowd else DURATIONS),
        delay=0.0 if is_crowd else delay,
        expires=rng.choice(EXPIRES) if expires else None,
        many=many,
        again=rng.choice(AGAIN) if twice else None,
    )


def _comes_again(rng: random.Random, send: Send) -> bool:
    likely = send.feature in STORED and not send.is_of_many and rng.random() < 0.6
    return send.again is not None or (likely and send.expires is None)


def _faults(
    rng: random.Random, kinds: list[str], sends: list[Send], *, backlog: bool
) -> list[Fault]:
    weights = [FAULTS[each] for each in kinds]
    count = rng.choice((0, 1, 1, 2, 2, 3, 4)) if kinds else 0
    faults = [
        _fault(rng, rng.choices(kinds, weights)[0], _moment(rng, sends, backlog=backlog))
        for _ in range(count)
    ]
    if any(each.feature in (*STORED, "saga") for each in sends):
        # What waits until a time by the wall clock is what a jump of that meets.
        faults += [
            Fault(max(0.1, each.at - rng.random()), "refused", seconds=rng.choice((1.0, 4.0)))
            for each in faults
            if each.kind == "clock jumps"
        ]
    return faults


def _moment(rng: random.Random, sends: list[Send], *, backlog: bool) -> float:
    """Draw when a fault comes: mostly while something goes on, which is little of the time."""
    what = rng.random()
    if what < 0.07:
        return round(rng.random(), 3)  # while they start
    if what < 0.25:
        return round(rng.random() * SPAN, 3)
    if backlog:
        return round(1.0 + rng.random(), 3)  # when the services come to it
    return round(rng.choice(sends).at + rng.random() * rng.choice((0.0, 0.01, 0.05, 0.5)), 3)


def _fault(rng: random.Random, kind: str, at: float) -> Fault:
    return Fault(
        at=at,
        kind=kind,
        target=rng.randrange(4),
        steps=rng.choice((1, rng.randint(1, 30), rng.randint(1, 400))),
        seconds=rng.choice((0.1, 1.0, 4.0)),
        amount=rng.random(),
    )
