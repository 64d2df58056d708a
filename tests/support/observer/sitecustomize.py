"""Loaded into a process under test, by its folder on PYTHONPATH: at SIGUSR1 it writes down what a
collector has found since the last time, and how many connections are alive.

The first signal arms it. From then on nothing that a collector finds is freed before it was told.
"""

from __future__ import annotations

import gc
import json
import os
import signal
import sys
from collections import Counter
from pathlib import Path
from types import (
    CoroutineType,
    FrameType,
    FunctionType,
    GeneratorType,
    MethodType,
)
from typing import Any

ANSWER = Path(os.environ["RELAY_OBSERVER_ANSWER"])
#: What a connection or request is made of that must be gone before it can be said to be over.
CONNECTIONS = frozenset(
    {
        "gateway.evm.socket.EvmSocket",
        "gateway.grpc.call.Call",
        "grpc._cython.cygrpc._ServicerContext",
        "streaming.ws.bodies.Request",
        "streaming.ws.consumer.DataConsumer",
        "streaming.ws.server.Protocol",
        "twisted.web.http.HTTPChannel",
        "twisted.web.http._GenericHTTPChannelProtocol",
    }
)
MAX_EDGES = 40


def look(*_: object) -> None:
    """Write what was found, in heaps of what refers to each other: how many objects of what kind,
    and which references make cycles of them; and what is alive."""
    if checks := sys.modules.get("streaming.ws.checks"):
        checks.CHECK_EVERY_S = 0.01  # whoever looks waits for it
    gc.collect()
    found = gc.garbage[:]
    gc.garbage.clear()
    among = {id(each) for each in found}
    kinds = (_kind(type(each)) for each in gc.get_objects() if id(each) not in among)
    told = {
        "alive": Counter(kind for kind in kinds if kind in CONNECTIONS),
        "heaps": [
            {"kinds": Counter(map(_name, heap)), "cycles": _cycles(heap)} for heap in _heaps(found)
        ],
    }
    gc.set_debug(0)
    del found
    gc.collect()  # now it goes
    gc.set_debug(gc.DEBUG_SAVEALL)
    written = ANSWER.with_suffix(".new")
    written.write_text(json.dumps(told))
    written.rename(ANSWER)


def _heaps(found: list[Any]) -> list[list[Any]]:
    near: dict[int, list[Any]] = {id(each): [] for each in found}
    for own in found:
        for to in gc.get_referents(own):
            if id(to) in near:
                near[id(own)].append(to)
                near[id(to)].append(own)
    heaps, seen = [], set[int]()
    for first in found:
        heap, waiting = [], [first]
        while waiting:
            own = waiting.pop()
            if id(own) not in seen:
                seen.add(id(own))
                heap.append(own)
                waiting += near[id(own)]
        if heap:
            heaps.append(heap)
    return heaps


def _cycles(found: list[Any]) -> dict[str, int]:
    """References between objects that are part of a cycle, or between two: what is left when those
    nobody refers to, and those that refer to nobody, are taken away again and again."""
    left = {id(each): each for each in found}
    edges = {own: [id(to) for to in gc.get_referents(each)] for own, each in left.items()}
    while True:
        to = {key for own in left for key in edges[own]}
        kept = {k: v for k, v in left.items() if k in to and any(e in left for e in edges[k])}
        if len(kept) == len(left):
            break
        left = kept
    names = {own: _name(each) for own, each in left.items()}
    counted = Counter(
        f"{names[own]} -{_label(left[own], left[to])}-> {names[to]}"
        for own in left
        for to in edges[own]
        if to in left
    )
    return dict(counted.most_common(MAX_EDGES))


def _kind(of: type) -> str:
    return f"{of.__module__}.{of.__qualname__}"


def _name(each: Any) -> str:
    """What it is, and of what. It is not asked: a lazy object would do what it puts off."""
    kind = type(each)
    if kind is FrameType:
        return f"frame:{each.f_globals.get('__name__')}.{each.f_code.co_qualname}"
    if kind is MethodType:
        return f"method:{_kind(type(each.__self__))}.{each.__name__}"
    if kind is FunctionType:
        return f"function:{each.__module__}.{each.__qualname__}"
    if kind in (CoroutineType, GeneratorType):
        return f"{kind.__name__}:{each.__qualname__}"
    if kind is dict:
        return f"dict:{','.join(sorted(map(str, each))[:4])[:60]}"
    if kind is type:
        return f"class:{_kind(each)}"
    return _kind(kind) if kind.__module__ != "builtins" else kind.__name__


def _label(own: Any, to: Any) -> str:
    """The name of the attribute, key or variable by which one refers to another."""
    named = own
    if type(own) is FrameType:
        named = own.f_locals
    elif type(own) is not dict:
        try:
            named = object.__getattribute__(own, "__dict__")
        except AttributeError:
            named = {}
    return next((str(key)[:40] for key, value in named.items() if value is to), "")


signal.signal(signal.SIGUSR1, look)
