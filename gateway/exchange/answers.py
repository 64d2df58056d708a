"""What a customer of `/exchange` gets when the exchange's own answer is not all there is to say.

A refusal has the exchange's shape, so that every client shows its text. An outcome nobody knows
is named as such, with what to do: a client that took it for a failure would order twice.
"""

from __future__ import annotations

import orjson

from gateway.exchange.passage import Outcome, Passed
from gateway.http.errors import HttpError
from gateway.upstreams.posts import Answer

JSON = b"application/json"
#: What the exchange says to a signer that it does not know. Both beginnings were seen.
UNKNOWN_SIGNER = (b"User or API Wallet 0x", b"Must deposit before performing actions")
TESTNET_HINT = (
    " (The relay: this signature is made for testnet, and this is mainnet. python-sdk does so for "
    "every base URL but the exchange's own. Before the first use: import hyperliquid.exchange; "
    "hyperliquid.exchange.MAINNET_API_URL = <the base URL you pass to Exchange>.)"
)
_ADVICE = (
    "Do not send it again under another nonce before you know: ask /info for orderStatus by cloid "
    "or for openOrders, or burn the nonce with a noop."
)


def refused(text: str) -> Answer:
    """A refusal of ours, in the exchange's shape."""
    return Answer(200, JSON, orjson.dumps({"status": "err", "response": text}))


def without_answer(passed: Passed) -> HttpError:
    """What is known of a request that has none."""
    is_sent = passed.outcome is Outcome.UNKNOWN
    code = "outcome_unknown" if is_sent else "not_sent"
    told = f"Nothing was sent: {passed.why}. It is safe to send it again."
    if is_sent:
        told = f"It was sent, and {passed.why}: whether it was carried out is not known. {_ADVICE}"
    error = HttpError(504, code, told)
    error.body = orjson.dumps({"error": code, "sent": is_sent, "code": code, "msg": told})
    return error


def is_of_unknown_signer(answer: Answer) -> bool:
    """Whether the exchange says that it does not know who signed."""
    return b'"err"' in answer.body and any(text in answer.body for text in UNKNOWN_SIGNER)


def with_testnet_hint(answer: Answer) -> Answer:
    """The exchange's text, and why it says so."""
    try:
        told = orjson.loads(answer.body)
        told["response"] += TESTNET_HINT
    except (ValueError, KeyError, TypeError):
        return answer
    return Answer(answer.status, answer.content_type, orjson.dumps(told))
