# SPDX-License-Identifier: Apache-2.0
"""Property tests: the same examples in every run, and the values that documents are made of."""

from datetime import UTC, datetime, timedelta

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st

from breakglass.core import bounds, names
from breakglass.core.command import (
    Action,
    Caps,
    Command,
    Mode,
    Rollout,
    Targets,
    TrustPin,
    Verb,
)

property_test = settings(
    derandomize=True,
    deadline=None,
    database=None,
    max_examples=150,
    suppress_health_check=[HealthCheck.too_slow],  # it would fail on a busy machine
)

_FIRST, _LAST = datetime(2020, 1, 1, tzinfo=UTC), datetime(2090, 1, 1, tzinfo=UTC)

name = st.from_regex(r"[a-z0-9][a-z0-9._-]{0,20}", fullmatch=True)
label = st.from_regex(r"[a-z0-9]([a-z0-9-]{0,20}[a-z0-9])?", fullmatch=True)
text = st.text(st.characters(min_codepoint=0x20, max_codepoint=0x7E), max_size=60)
digest = st.from_regex(r"[0-9a-f]{64}", fullmatch=True)
command_id = st.builds(
    names.render_id, st.integers(0, 2**48 - 1), st.binary(min_size=10, max_size=10)
)
time = st.integers(0, int((_LAST - _FIRST).total_seconds())).map(
    lambda seconds: _FIRST + timedelta(seconds=seconds)
)


@st.composite
def _range(draw: st.DrawFn) -> str:
    width = draw(st.integers(1, 4))
    low, high = sorted(draw(st.tuples(*[st.integers(0, 10**width - 1)] * 2)))
    return f"[{low:0{width}d}-{high:0{width}d}]"


pattern = (
    st.lists(st.sampled_from(["*", "?", "a", "b", "web-", "01", "."]) | _range(), min_size=1)
    .map("".join)
    .filter(lambda one: "**" not in one and one.count("*") <= bounds.MAX_PATTERN_STARS)
    .filter(lambda one: len(one) <= bounds.MAX_PATTERN_CHARS)
)


def _some(items: st.SearchStrategy[str], *, least: int = 0) -> st.SearchStrategy[tuple[str, ...]]:
    return st.lists(items, min_size=least, max_size=8, unique=True).map(tuple)


targets = st.builds(
    Targets,
    clusters=_some(name, least=1),
    nodes=_some(pattern, least=1),
    pools=_some(name),
    excepted=_some(pattern.filter(lambda one: one != "*")),
)


@st.composite
def action(draw: st.DrawFn) -> Action:
    """Return an action of any verb, with that verb's fields."""
    verb = draw(st.sampled_from(Verb))
    least_s = 1 if verb is Verb.EXTEND else 0
    return Action(
        verb=verb,
        namespace=draw(label),
        name=draw(label),
        revision=draw(st.from_regex(r"[456789bcdf]{0,10}", fullmatch=True)),
        image=draw(st.just("") | digest.map("sha256:{}".format)) if verb.stops else "",
        grace_s=draw(st.integers(0, bounds.MAX_GRACE_S)) if verb.stops else 0,
        hold_s=0 if verb is Verb.RELEASE else draw(st.integers(least_s, bounds.MAX_HOLD_S)),
        holds_of="" if verb.stops else draw(st.just("") | command_id),
    )


@st.composite
def command(draw: st.DrawFn) -> Command:
    """Return any command there can be."""
    created = draw(time)
    waits = timedelta(seconds=draw(st.integers(0, 1_000_000)))
    lasts = timedelta(seconds=draw(st.integers(1, bounds.MAX_WINDOW_S)))
    return Command(
        id=draw(command_id),
        domain=draw(name),
        trust=TrustPin(version=draw(st.integers(1, 2**53 - 1)), sha256=draw(digest)),
        action=draw(action()),
        targets=draw(targets),
        caps=Caps(
            max_nodes=draw(st.integers(1, bounds.MAX_NODES)),
            max_pods_per_node=draw(st.integers(1, bounds.MAX_PODS_PER_NODE)),
        ),
        rollout=Rollout(
            canary=draw(st.integers(0, bounds.MAX_NODES)),
            max_parallel=draw(st.integers(1, bounds.MAX_PARALLEL)),
            max_failures=draw(st.integers(0, bounds.MAX_NODES)),
        ),
        mode=draw(st.sampled_from(Mode)),
        incident=draw(text),
        reason=draw(text.filter(str.strip)),
        requester=draw(name),
        created=created,
        not_before=created + waits,
        not_after=created + waits + lasts,
    )


@st.composite
def broken(draw: st.DrawFn, whole: bytes) -> bytes:
    """Return a document with one stretch cut out, doubled, or replaced by other bytes."""
    start = draw(st.integers(0, len(whole)))
    end = draw(st.integers(start, min(len(whole), start + 40)))
    pieces = [b"", whole[start:end] * 2, b" ", b"\n", b"\\u0041", b'"', b"1", b"{", b"]"]
    return whole[:start] + draw(st.sampled_from(pieces) | st.binary(max_size=8)) + whole[end:]
