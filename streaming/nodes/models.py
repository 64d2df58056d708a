"""Which upstreams are read, which gaps customers met, and the open sessions as a page."""

from __future__ import annotations

from urllib.parse import urlencode

from django.core.exceptions import ValidationError
from django.core.validators import MaxValueValidator, MinValueValidator, RegexValidator
from django.db import models
from django.db.models import F, Q
from django.utils import timezone

from streaming.core.envelope import LAST_INDEX, Position
from streaming.core.without_secrets import without_secrets
from streaming.nodes import addresses

MAX_WEIGHT = 1_000


class UpstreamNode(models.Model):
    """One upstream of this relay. Used while `RELAY_UPSTREAMS` is unset."""

    class Kind(models.TextChoices):
        NODE = "node", "node: files on this host"
        GATEWAY = "gateway", "gateway: an HL Gateway beside a node"
        PUBLIC = "public", "public: an official WebSocket"

    class Chain(models.TextChoices):
        MAINNET = "mainnet", "mainnet"
        TESTNET = "testnet", "testnet"

    kind = models.CharField(max_length=10, choices=Kind.choices, default=Kind.GATEWAY)
    address = models.CharField(
        max_length=255,
        unique=True,
        help_text="A node's data folder, a gateway's host:port, or a WebSocket URL.",
        error_messages={"unique": "This upstream is in the list already."},
    )
    info_url = models.CharField(
        "info URL",
        max_length=255,
        blank=True,
        help_text="The node's /info. A gateway passes its own on; a public one has the same host.",
    )
    evm_url = models.CharField(
        "EVM URL",
        max_length=255,
        blank=True,
        help_text="The node's /evm (JSON-RPC). A gateway passes its own on.",
    )
    exchange_url = models.CharField(
        "exchange URL",
        max_length=255,
        blank=True,
        help_text="Where orders go. Nodes take none; a public one has the same host.",
    )
    chain = models.CharField(max_length=10, choices=Chain.choices, default=Chain.MAINNET)
    tls_ca = models.CharField(
        "TLS authority",
        max_length=255,
        blank=True,
        help_text="Who signed the gateway's certificate: a PEM file where the workers run, or "
        "“system”. With none of the three the connection is in the clear.",
    )
    tls_cert = models.CharField(
        "TLS certificate", max_length=255, blank=True, help_text="Ours, for mutual TLS: a PEM file."
    )
    tls_key = models.CharField(
        "TLS key", max_length=255, blank=True, help_text="Its key: a PEM file."
    )
    region = models.CharField(
        max_length=40,
        blank=True,
        validators=[RegexValidator(r"^[0-9A-Za-z._-]+\Z", "Letters, digits, dots and dashes.")],
    )
    weight = models.PositiveSmallIntegerField(
        default=1,
        validators=[MinValueValidator(1), MaxValueValidator(MAX_WEIGHT)],
        help_text="Of equally healthy ones the heaviest is asked for checkpoints and /info.",
    )
    is_enabled = models.BooleanField("enabled", default=True, help_text="Workers read it.")
    is_draining = models.BooleanField(
        "draining",
        default=False,
        help_text="About to be maintained: workers let it go, and take it back afterwards.",
    )
    created_at = models.DateTimeField(default=timezone.now, editable=False)

    class Meta:
        ordering = ["kind", "address"]
        constraints = [
            models.CheckConstraint(
                condition=Q(kind__in=["node", "gateway", "public"]), name="upstream_kind_known"
            ),
            models.CheckConstraint(
                condition=Q(chain__in=["mainnet", "testnet"]), name="upstream_chain_known"
            ),
            models.CheckConstraint(
                condition=Q(weight__gte=1, weight__lte=MAX_WEIGHT), name="upstream_weight_bounded"
            ),
        ]

    def __str__(self) -> str:
        return f"{self.kind} {self.shown_address}"

    def clean(self) -> None:
        """Bring the address into its one form, so that no upstream is in the list twice."""
        forms = {
            self.Kind.NODE: addresses.node_folder,
            self.Kind.GATEWAY: addresses.gateway_address,
            self.Kind.PUBLIC: addresses.public_address,
        }
        problems: dict[str, str] = {}
        if self.kind in forms:
            try:
                self.address = forms[self.Kind(self.kind)](self.address)
            except ValueError as error:
                problems["address"] = str(error)
        for name in ("info", "evm", "exchange"):
            field = f"{name}_url"
            try:
                setattr(self, field, addresses.http_url(name, getattr(self, field)))
            except ValueError as error:
                problems[field] = str(error)
        problems |= addresses.tls_problems(
            ca=self.tls_ca,
            cert=self.tls_cert,
            key=self.tls_key,
            is_gateway=self.kind == self.Kind.GATEWAY,
        )
        if problems:
            raise ValidationError(problems)

    @property
    def shown_address(self) -> str:
        """The address without what may be a key in it, as workers show it too."""
        return without_secrets(self.address)

    @property
    def entry(self) -> str:
        """The upstream as `RELAY_UPSTREAMS` would name it."""
        scheme = "" if self.kind == self.Kind.PUBLIC else f"{self.kind}://"
        parameters = {
            "info": self.info_url,
            "evm": self.evm_url,
            "exchange": self.exchange_url,
            "chain": self.chain,
            "region": self.region,
            "weight": str(self.weight),
            "tls_ca": self.tls_ca,
            "tls_cert": self.tls_cert,
            "tls_key": self.tls_key,
        }
        query = urlencode({name: value for name, value in parameters.items() if value})
        return f"{scheme}{self.address}?{query}"


class GapRecord(models.Model):
    """Something of a topic that customers did not get: everything in (from, to].

    Written by the ingest of gap reports alone. `source` is `node`, where places are (block height,
    index within it), or the epoch of a public link, where they are that link's own. `edge` is the
    process whose customers missed it, "" when a worker lost it for all of them.
    """

    topic = models.CharField(max_length=200)
    kind = models.CharField(max_length=40)
    coin = models.CharField(max_length=48, blank=True)
    source = models.CharField(max_length=40)
    from_height = models.BigIntegerField()
    from_index = models.BigIntegerField()
    to_height = models.BigIntegerField()
    to_index = models.BigIntegerField()
    reason = models.CharField(max_length=200)
    edge = models.CharField(max_length=40, blank=True)
    detected_at = models.DateTimeField()
    filled_at = models.DateTimeField(null=True, blank=True)

    class Meta:
        ordering = ["-detected_at"]
        verbose_name = "gap"
        constraints = [
            models.UniqueConstraint(
                fields=[
                    "topic", "source", "edge",
                    "from_height", "from_index", "to_height", "to_index",
                ],
                name="gap_once",
            ),
            models.CheckConstraint(
                condition=Q(to_height__gt=F("from_height"))
                | Q(to_height=F("from_height"), to_index__gt=F("from_index")),
                name="gap_ends_after_it_begins",
            ),
        ]  # fmt: skip
        indexes = [
            models.Index(fields=["-detected_at"], name="gap_by_time"),
            models.Index(fields=["kind", "coin", "-detected_at"], name="gap_by_kind_coin"),
        ]

    def __str__(self) -> str:
        return f"{self.topic} ({_shown(self.begin)} to {_shown(self.end)}]"

    @property
    def begin(self) -> Position:
        """The last place before the gap."""
        return Position(self.from_height, self.from_index)

    @property
    def end(self) -> Position:
        """The last place in it."""
        return Position(self.to_height, self.to_index)


class OpenSession(models.Model):
    """No table: gives the list of open sessions its place and its permissions in the admin."""

    class Meta:
        managed = False
        default_permissions = ("view", "change")
        verbose_name = "open session"

    def __str__(self) -> str:
        return "open sessions"


def _shown(position: Position) -> str:
    index = "end" if position.index >= LAST_INDEX else str(position.index)
    return f"{position.height}/{index}"
