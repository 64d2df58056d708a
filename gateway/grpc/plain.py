"""Surfaces whose protos have words for data alone: what else is to be told ends the call, or is not
told. A hole ends it, because nobody may take it for a quiet market."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import grpc

from gateway.grpc import events
from gateway.grpc.envelopes import Made, Written
from gateway.grpc.statuses import CallEnds, of_refusal
from streaming.core.counted import Counted
from streaming.core.streams import Item, RelayFrame

#: One update as whole messages; none, where nothing of it is asked for.
Making = Callable[[RelayFrame], Iterable[Made]]


#: Behind a hole, where a call can begin at a block.
AGAIN_FROM = "Ask again from block {} on."


class Plain:
    """Implements `call_sink.Writing`: each update in messages of its own."""

    def __init__(self, make: Making, *, is_gap_told: bool = False) -> None:
        """`is_gap_told`: what comes after a gap makes good for it, as a snapshot does."""
        self._make = make
        self.is_gap_told = is_gap_told
        self.again = AGAIN_FROM

    def write(self, items: Sequence[Item]) -> Written:
        """All of `items`, up to one that ends the call."""
        messages: list[Made] = []
        tally: list[tuple[Counted, int, int]] = []
        for item in items:
            frame = RelayFrame.of(*item) if isinstance(item, tuple) else item
            if not isinstance(frame, RelayFrame):
                event = events.read(frame.payload)
                if (told := self.say(event)) is not None:
                    messages.append(told)
                elif (ends := self.end(event)) is not None:
                    return Written(messages, tally, ends)
                continue
            frame.take_number()
            made = list(self._make(frame))
            messages += made
            if made and frame.counted is not None:
                count(tally, frame.counted, made)
        return Written(messages, tally)

    def say(self, event: dict[str, Any]) -> bytes | None:
        """What the proto has for an event; None: no words."""
        del event
        return None

    def end(self, event: dict[str, Any]) -> CallEnds | None:
        """How the call ends with an event; None: it does not."""
        match event["type"]:
            case "error":
                return of_refusal(event["code"], event["msg"])
            case "gap" if not self.is_gap_told:
                first, last = event["fromHeight"] + 1, event["toHeight"]
                which = f"{first} to {last}" if last is not None else f"from {first} on"
                line = f"Blocks {which} are missing here: {event['reason']}."
                if last is not None:
                    line += f" {self.again.format(last + 1)}"
                return CallEnds(grpc.StatusCode.DATA_LOSS, line, code="gap")
            case "resumeFailed":
                oldest = event["oldestHeight"]
                line = f"What you asked for is gone: {event['reason']}."
                if oldest:
                    line += f" The oldest block that is kept is {oldest + 1}."
                return CallEnds(grpc.StatusCode.OUT_OF_RANGE, line, code="resume_failed")
        return None


def made_once(frame: RelayFrame, make: Callable[[bytes, int], bytes]) -> Iterable[bytes]:
    """A message that is the same for all who get the frame, made of its text and height."""
    parts = frame.parts
    forms = parts.forms
    if forms is None:
        forms = parts.forms = {}
    message = forms.get(make)
    if message is None:
        message = forms[make] = make(parts.payload, parts.position.height)
    return (message,)


def count(tally: list[tuple[Counted, int, int]], counted: Counted, made: list[Made]) -> None:
    """Add an update's messages; of one that is still made once it is there, which is before it
    leaves."""
    size_bytes = 0
    for message in made:
        if isinstance(message, bytes):
            size_bytes += len(message)
        elif message.done():
            size_bytes += len(message.result())
        else:

            def add(ready: asyncio.Future[bytes]) -> None:
                if not ready.cancelled() and ready.exception() is None:
                    tally.append((counted, 0, len(ready.result())))

            message.add_done_callback(add)
    tally.append((counted, counted.messages, size_bytes))
