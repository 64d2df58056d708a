"""Actions of the admin that ask first: a page with what was chosen and a form, then the act."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from django import forms
from django.contrib import messages
from django.core.exceptions import ValidationError
from django.db import OperationalError
from django.db.models import QuerySet
from django.http import HttpRequest, HttpResponse
from django.template.response import TemplateResponse

from billing.invoicing.errors import InvoicingError
from billing.invoicing.retrying import is_contention

#: Rows of one press of a button: more is a slip, or work for a command.
MAX_AT_ONCE = 50


def ask(
    owner: Any,
    request: HttpRequest,
    rows: QuerySet[Any],
    act: str,
    form_class: type[forms.Form],
    do: Callable[[Any, dict[str, Any]], object],
    *,
    most: int = MAX_AT_ONCE,
) -> HttpResponse | None:
    """Ask, and when the answer is valid, do it with each row and say how it went. What the books
    refuse is told, and the other rows go on; so is a text that `do` answers."""
    if (chosen := rows.count()) > most:
        text = f"{chosen:,} chosen; at most {most} at once."
        owner.message_user(request, text, level=messages.ERROR)
        return None
    form = form_class(request.POST if "confirmed" in request.POST else None)
    if not form.is_valid():
        return _page(owner, request, rows, act, form)
    done = 0
    for row in rows:
        try:
            told = do(row, form.cleaned_data)
            done += 1
            if isinstance(told, str):
                owner.message_user(request, told, level=messages.WARNING)
        except InvoicingError as error:
            owner.message_user(request, f"{row}: {error}.", level=messages.ERROR)
        except ValidationError as error:
            owner.message_user(request, f"{row}: {error.messages[0]}", level=messages.ERROR)
        except OperationalError as error:
            if not is_contention(error):
                raise
            text = f"{row}: others book for the same customer; nothing was booked, try again."
            owner.message_user(request, text, level=messages.ERROR)
        except OSError:
            text = f"{row}: the mail server did not take it; its log says why."
            owner.message_user(request, text, level=messages.ERROR)
    if done:
        owner.message_user(request, f"{act.capitalize()}: {done} done.", messages.SUCCESS)
    return None


def _page(
    owner: Any, request: HttpRequest, rows: QuerySet[Any], act: str, form: forms.Form
) -> HttpResponse:
    response = TemplateResponse(
        request,
        "admin/billing/invoice/confirm.html",
        {
            **owner.admin_site.each_context(request),
            "opts": owner.opts,
            "title": f"{act.capitalize()}?",
            "action": request.POST.get("action", ""),
            "rows": list(rows),
            "act": act,
            "form": form,
        },
    )
    response["Cache-Control"] = "no-store"
    return response
