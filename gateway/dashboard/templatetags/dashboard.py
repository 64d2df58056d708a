"""Small parts that templates say in a word."""

from __future__ import annotations

from django import template
from django.templatetags.static import static
from django.utils.html import format_html
from django.utils.safestring import SafeString

from gateway.dashboard import delivery_words, figures, words

register = template.Library()


@register.simple_tag
def icon(name: str, label: str = "", css: str = "") -> SafeString:
    """An icon of `assets/icons.txt`; without a label it is decoration."""
    href = f"{static('dashboard/icons.svg')}#{name}"
    if label:
        return format_html(
            '<svg class="icon {}" role="img" aria-label="{}"><use href="{}"></use></svg>',
            css,
            label,
            href,
        )
    return format_html(
        '<svg class="icon {}" aria-hidden="true"><use href="{}"></use></svg>', css, href
    )


register.filter("whole", figures.whole)
register.filter("money", figures.money)
register.filter("size", figures.size)
register.filter("rate", figures.rate)
register.filter("quantity", figures.quantity)
register.filter("short", figures.short)
register.filter("minus", figures.minus)
register.filter("word", words.word)
register.filter("why_not", delivery_words.why_not)
register.filter("words", words.words)
