"""Receipts: what was sealed, as files that customers check without us, and our own check of it."""

from __future__ import annotations

from django.conf import settings
from django.http import HttpResponse, StreamingHttpResponse
from django.shortcuts import render

from billing.exports.pages import download
from gateway.account import chain, receipts
from gateway.account.errors import BadValue
from gateway.dashboard.access import PageRequest, page
from tenants.people.roles import May

SCRIPT = "verify_receipts.py"


@page(may=May.SEE_USAGE)
def show(request: PageRequest) -> HttpResponse:
    """Months, the head of the chain, and how to check it."""
    head = receipts.chain_head(request.tenant)
    return render(request, "dashboard/receipts.html", {"head": head, "script": SCRIPT})


@page(may=May.SEE_USAGE)
def check(request: PageRequest, month: str) -> HttpResponse:
    """The part that says whether a month's receipts and the chain hold."""
    try:
        found = chain.check(request.tenant, month)
    except BadValue as error:
        return HttpResponse(str(error), status=400, content_type="text/plain; charset=utf-8")
    return render(request, "dashboard/receipts_check.html", {"check": found})


@page(may=May.SEE_USAGE)
def file(request: PageRequest, month: str) -> HttpResponse | StreamingHttpResponse:
    """A month's receipts, a JSON line each."""
    try:
        lines = receipts.receipt_file(request.tenant, month)
    except BadValue as error:
        return HttpResponse(f"{error}\n", status=400, content_type="text/plain; charset=utf-8")
    answer = download(request, lines, f"receipts-{month}.jsonl")
    answer["Content-Type"] = "application/x-ndjson"
    return answer


@page(may=May.SEE_USAGE)
def script(request: PageRequest) -> HttpResponse:
    """The script that checks a file."""
    text = (settings.BASE_DIR / "docs" / SCRIPT).read_bytes()
    answer = HttpResponse(text, content_type="text/x-python; charset=utf-8")
    answer["Content-Disposition"] = f'attachment; filename="{SCRIPT}"'
    return answer
