import django.core.validators
import django.utils.timezone
from django.db import migrations, models


class Migration(migrations.Migration):
    initial = True

    dependencies = []

    operations = [
        migrations.CreateModel(
            name="OpenSession",
            fields=[
                (
                    "id",
                    models.BigAutoField(
                        auto_created=True, primary_key=True, serialize=False, verbose_name="ID"
                    ),
                ),
            ],
            options={
                "verbose_name": "open session",
                "managed": False,
                "default_permissions": ("view", "change"),
            },
        ),
        migrations.CreateModel(
            name="GapRecord",
            fields=[
                (
                    "id",
                    models.BigAutoField(
                        auto_created=True, primary_key=True, serialize=False, verbose_name="ID"
                    ),
                ),
                ("topic", models.CharField(max_length=200)),
                ("kind", models.CharField(max_length=40)),
                ("coin", models.CharField(blank=True, max_length=48)),
                ("source", models.CharField(max_length=40)),
                ("from_height", models.BigIntegerField()),
                ("from_index", models.BigIntegerField()),
                ("to_height", models.BigIntegerField()),
                ("to_index", models.BigIntegerField()),
                ("reason", models.CharField(max_length=200)),
                ("edge", models.CharField(blank=True, max_length=40)),
                ("detected_at", models.DateTimeField()),
                ("filled_at", models.DateTimeField(blank=True, null=True)),
            ],
            options={
                "verbose_name": "gap",
                "ordering": ["-detected_at"],
                "indexes": [
                    models.Index(fields=["-detected_at"], name="gap_by_time"),
                    models.Index(fields=["kind", "coin", "-detected_at"], name="gap_by_kind_coin"),
                ],
                "constraints": [
                    models.UniqueConstraint(
                        fields=(
                            "topic",
                            "source",
                            "edge",
                            "from_height",
                            "from_index",
                            "to_height",
                            "to_index",
                        ),
                        name="gap_once",
                    ),
                    models.CheckConstraint(
                        condition=models.Q(
                            ("to_height__gt", models.F("from_height")),
                            models.Q(
                                ("to_height", models.F("from_height")),
                                ("to_index__gt", models.F("from_index")),
                            ),
                            _connector="OR",
                        ),
                        name="gap_ends_after_it_begins",
                    ),
                ],
            },
        ),
        migrations.CreateModel(
            name="UpstreamNode",
            fields=[
                (
                    "id",
                    models.BigAutoField(
                        auto_created=True, primary_key=True, serialize=False, verbose_name="ID"
                    ),
                ),
                (
                    "kind",
                    models.CharField(
                        choices=[
                            ("node", "node: files on this host"),
                            ("gateway", "gateway: an HL Gateway beside a node"),
                            ("public", "public: an official WebSocket"),
                        ],
                        default="gateway",
                        max_length=10,
                    ),
                ),
                (
                    "address",
                    models.CharField(
                        error_messages={"unique": "This upstream is in the list already."},
                        help_text="A node's data folder, a gateway's host:port, or a WebSocket URL.",
                        max_length=255,
                        unique=True,
                    ),
                ),
                (
                    "info_url",
                    models.CharField(
                        blank=True,
                        help_text="The node's /info. A gateway passes its own on; a public one has the same host.",
                        max_length=255,
                        verbose_name="info URL",
                    ),
                ),
                (
                    "chain",
                    models.CharField(
                        choices=[("mainnet", "mainnet"), ("testnet", "testnet")],
                        default="mainnet",
                        max_length=10,
                    ),
                ),
                (
                    "region",
                    models.CharField(
                        blank=True,
                        max_length=40,
                        validators=[
                            django.core.validators.RegexValidator(
                                "^[0-9A-Za-z._-]+\\Z", "Letters, digits, dots and dashes."
                            )
                        ],
                    ),
                ),
                (
                    "weight",
                    models.PositiveSmallIntegerField(
                        default=1,
                        help_text="Of equally healthy ones the heaviest is asked for checkpoints and /info.",
                        validators=[
                            django.core.validators.MinValueValidator(1),
                            django.core.validators.MaxValueValidator(1000),
                        ],
                    ),
                ),
                (
                    "is_enabled",
                    models.BooleanField(
                        default=True, help_text="Workers read it.", verbose_name="enabled"
                    ),
                ),
                (
                    "is_draining",
                    models.BooleanField(
                        default=False,
                        help_text="About to be maintained: workers let it go, and take it back afterwards.",
                        verbose_name="draining",
                    ),
                ),
                (
                    "created_at",
                    models.DateTimeField(default=django.utils.timezone.now, editable=False),
                ),
            ],
            options={
                "ordering": ["kind", "address"],
                "constraints": [
                    models.CheckConstraint(
                        condition=models.Q(("kind__in", ["node", "gateway", "public"])),
                        name="upstream_kind_known",
                    ),
                    models.CheckConstraint(
                        condition=models.Q(("chain__in", ["mainnet", "testnet"])),
                        name="upstream_chain_known",
                    ),
                    models.CheckConstraint(
                        condition=models.Q(("weight__gte", 1), ("weight__lte", 1000)),
                        name="upstream_weight_bounded",
                    ),
                ],
            },
        ),
    ]
