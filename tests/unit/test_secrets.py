"""What is a secret, and what is left of a text without it."""

from __future__ import annotations

import base64
import html
import json
import time
from typing import Any
from urllib.parse import quote, quote_plus

import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.model.secrets import (
    HIDDEN,
    data_without_secrets,
    is_secret,
    known_secrets,
    last_lines,
    secrets_of,
    source_without_secrets,
    without_secrets,
)

SECRET = "s3cr3t/+va l&ue\"x'yÄ<ö>\\z"
KEY = "-----BEGIN PRIVATE KEY-----\nMIIEvQIBADANBgkqhkiG9w0B\n-----END PRIVATE KEY-----"

mixed = st.text(st.characters(codec="utf-8", exclude_categories=("Cc", "Cs")), min_size=12, max_size=40).map(
    lambda text: f"aB3{text}"
)


@pytest.mark.parametrize(
    ("variable", "value"),
    [
        ("DB_PASSWORD", "x1"),
        ("POSTGRES_PASSWORD", "orders"),
        ("PGPASSWORD", "abc"),
        ("apiKey", "abc"),
        ("AWS_SECRET_ACCESS_KEY", "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY"),
        ("SMTP_PASS", "x"),
        ("MYSQL_PWD", "x"),
        ("SESSION_COOKIE", "a=b"),
        ("DATABASE_URL", "postgres://a:b@c/d"),
        ("ANYTHING", "AKIAIOSFODNN7EXAMPLE"),
        ("ANYTHING", "ghp_012345678901234567890123456789012345"),
        ("ANYTHING", "Bearer abcdefGH12345"),
        ("ANYTHING", "host=db password=x user=y"),
        ("ANYTHING", KEY),
        ("DB_PASSWORDS", "Tr0ub4dor&3x"),
        ("API_KEYS", "Tr0ub4dor&3x"),
        ("DBPASS", "Tr0ub4dor&3x"),
        ("USERPASS", "Tr0ub4dor&3x"),
        ("MYTOKEN", "Tr0ub4dor&3x"),
        ("GITHUBTOKEN", "Tr0ub4dor&3x"),
        ("ACCESSTOKEN", "Tr0ub4dor&3x"),
        ("BASIC_AUTH", "anna:Tr0ub4dor&3x"),
        ("NEO4J_AUTH", "neo4j/Tr0ub4dor3"),
        ("STRIPE_KEY", "Tr0ub4dor&3xyz"),
        ("DATADOG_KEY", "0123456789abcdef0123456789abcdef"),
        ("X_KEY", "0123456789ABCDEF0123456789ABCDEF"),
        ("SENDGRID_KEY", "SG.ngeVfQFYQlKU0ufo8x5d1A"),
        ("SLACK_WEBHOOK", "https://hooks.slack.com/services/T00/B00/XXXXXXXXX"),
        ("SLACK_WEBHOOK_URL", "https://hooks.slack.com/services/T00/B00/XXXXXXXXX"),
        ("ALERTS", "https://discord.com/api/webhooks/123456/abcDEF-ghi_jkl"),
        ("SLACK_WEBHOOK_SECRET", "https://hooks.slack.com/services/T00/B00/XXXXXXXXX"),
        ("ANYTHING", "postgres://u:pa/ss#W0rd@db/x"),
    ],
)
def test_a_secret_is_known_by_its_name_its_place_or_its_shape(variable: str, value: str) -> None:
    assert is_secret(variable, value)


@pytest.mark.parametrize(
    ("variable", "value"),
    [
        ("ORDER_URL", "http://order:8000"),
        ("TOKEN_URL", "http://auth:8000/token"),
        ("TOKEN_TTL", "one hour"),
        ("PASSWORD_FILE", "/run/secrets/db"),
        ("MAX_TOKENS", "500"),
        ("USE_TOKEN", "true"),
        ("AUTHOR", "anna"),
        ("KEYBOARD", "de"),
        ("PWD", "/home/anna/shop"),
        ("OLDPWD", "/home/anna/shop"),
        ("COMPASS", "north"),
        ("DEFECTS", "silent_fallback"),
        ("COMPASS", "Tr0ub4dor&3x"),
        ("BYPASS", "Tr0ub4dor&3x"),
        ("OAUTH", "Tr0ub4dor&3x"),
        ("PARTITION_KEY", "order_id_of_customer"),
        ("ROUTING_KEY", "orders.v2.Created"),
        ("WEBHOOK_URL", "http://order:8000/webhooks/of/payment"),
        ("TLS_KEY", "/etc/ssl/private/Server1.key"),
        ("SECRETS_MANAGER", "http://vault:8200"),
        ("TOKEN_SERVICE", "http://auth:8000"),
        ("REDIS_AUTH", "false"),
        ("DB_PASSWORD", ""),
        ("DB_PASSWORD", "${DB_PASSWORD}"),
    ],
)
def test_what_only_speaks_of_a_secret_is_none(variable: str, value: str) -> None:
    assert not is_secret(variable, value)


@pytest.mark.parametrize(
    ("text", "left"),
    [
        ("postgresql://orders:orders@postgres:5432/orders", "postgresql://orders:***@postgres:5432/orders"),
        ("redis://:hunter2@redis:6379", "redis://:***@redis:6379"),
        ("no http://user:p@ss@host/ there", "no http://user:***@host/ there"),
        ("https://ghs_0123456789012345678901234567890123@x/y", "https://***@x/y"),
        ("Authorization: Bearer abc.def", "Authorization: ***"),
        ("{'Authorization': b'Basic dXNlcjpwYXNz'}", "{'Authorization': b'***'}"),
        (r'"{\"authorization\": \"Digest abc\"}"', r'"{\"authorization\": \"***\"}"'),
        ("Cookie: a=b; c=d", "Cookie: ***"),
        ('Authorization: Token token="Hunter22x"', "Authorization: ***"),
        ('Authorization: Digest username="u", nonce="n", response="6629fa" and so on', "Authorization: ***"),
        (r'"{\"authorization\": \"Digest username=\\\"u\\\", response=abc\"}"', r'"{\"authorization\": \"***\"}"'),
        ("{'Authorization': 'Digest username=\"u\", response=\"abc\"', 'X': 1}", "{'Authorization': '***', 'X': 1}"),
        ("Authorization: ApiKey abc123", "Authorization: ***"),
        ("postgres://u:pa/ss#W0rd@db/x", "postgres://u:***@db/x"),
        ("redis://cache:6379/0 and anna@example.org", "redis://cache:6379/0 and anna@example.org"),
        ("redis://cache:6379/0?from=anna@example.org", "redis://cache:6379/0?from=anna@example.org"),
        ("postgres://u:p1@a/x,postgres://u:p2@b/y", "postgres://u:***@a/x,postgres://u:***@b/y"),
        ("postgres://u:p@a/x,see:anna@example.org", "postgres://u:***@a/x,see:anna@example.org"),
        ("postgres://u:pa@ss/W0rd@db/x", "postgres://u:***@db/x"),
        ("https://u:pa/ss@h/x", "https://u:***@h/x"),
        ("mssql://u:pa/ss@db", "mssql://u:***@db"),
        ("http://order:8000/of/anna@example.org", "http://order:8000/of/anna@example.org"),
        ("http://[::1]:8000/of/anna@example.org", "http://[::1]:8000/of/anna@example.org"),
        ("http://order:${PORT}/of/anna@example.org", "http://order:${PORT}/of/anna@example.org"),
        ("X-Api-Key: abc", "X-Api-Key: ***"),
        ("Authorization: Token token=abc; device=SECRET9", "Authorization: ***"),
        ("Authorization: Basic dXNlcjpwYXNz==; session=SECRET", "Authorization: ***"),
        ("Authorization: Bearer abc==; refresh=SECRET", "Authorization: ***"),
        ("Cookie: basic a=b; session=SECRET", "Cookie: ***"),
        ('Authorization: Digest username="u"; response="SECRET9"', "Authorization: ***"),
        ("Authorization: AWS4-HMAC-SHA256 Credential=a/b, SignedHeaders=host;range, Signature=fe5f80", "Authorization: ***"),
        ("Authorization: OAuth 1/fFAGRNJru1FTz70BzhT3Zg", "Authorization: ***"),
        ("Authorization: Zoho-oauthtoken 1000.abc", "Authorization: ***"),
        ("Authorization: Hawk id=a1b2 mac=SECRETmac99", "Authorization: ***"),
        ("Authorization: Own user=anna sig99SECRET", "Authorization: ***"),
        ("Authorization: hmac user sig99SECRET", "Authorization: ***"),
        ("Authorization: ApiKey order-service abcDEF123456", "Authorization: ***"),
        ("Authorization: Bearer: abcDEF99secret", "Authorization: ***"),
        ("Authorization: Bearer abc.def to order, 401", "Authorization: *** to order, 401"),
        ("-H 'Authorization: hmac user sig99' http://order:8000", "-H 'Authorization: ***' http://order:8000"),
        ("{'Authorization': None, 'X': 1}", "{'Authorization': ***, 'X': 1}"),
        ("Headers{Authorization:[hmac user sig99], Host:[order]}", "Headers{Authorization:[***], Host:[order]}"),
        ('{"Authorization": ["hmac user sig99"], "Host": ["order"]}', '{"Authorization": ["***"], "Host": ["order"]}'),
        ("X-Api-Key: abc\nstatus: 401", "X-Api-Key: ***\nstatus: 401"),
        ("Authorization: abc\nHost: order:8000", "Authorization: ***\nHost: order:8000"),
        ("to https://hooks.slack.com/services/T00/B00/XXXX now", "to https://hooks.slack.com/services/*** now"),
        ("https://hooks.slack.com/workflows/T00/A00/123/abc", "https://hooks.slack.com/workflows/***"),
        ("https://hooks.slack.com/triggers/T00/123/abcDEF", "https://hooks.slack.com/triggers/***"),
        ("https://discord.com/api/v10/webhooks/123456/abcDEF", "https://discord.com/api/v10/webhooks/***"),
        ("https://ptb.discord.com/api/webhooks/123456/abcDEF", "https://ptb.discord.com/api/webhooks/***"),
        (r'"https:\/\/hooks.slack.com\/services\/T00\/B00\/XXXX"', r'"https:\/\/hooks.slack.com\/services\/***"'),
        (
            r'"{\"at\": \"https://hooks.slack.com/services/T00/B00/XXX\"}"',
            r'"{\"at\": \"https://hooks.slack.com/services/***\"}"',
        ),
        ("sent Bearer abcdefGH123", "sent Bearer ***"),
        ("DB_PASSWORD=short LANG=C", "DB_PASSWORD=*** LANG=C"),
        ("GET /x?access_token=abc&page=1", "GET /x?access_token=***&page=1"),
        (f"key {KEY}", "key ***"),
        (f"keys {KEY[:60]}\n{KEY}; one more {KEY[:60]}", "keys ******; one more ***"),
        ("a basic structure, a bearer of bad news, tokens=5", "a basic structure, a bearer of bad news, tokens=5"),
        (
            "GET http://order:8000/orders at 12:30 by anna@example.org",
            "GET http://order:8000/orders at 12:30 by anna@example.org",
        ),
        ("order -> postgres:5432 was refused", "order -> postgres:5432 was refused"),
    ],
)
def test_what_looks_like_a_secret_is_hidden_where_it_stands_and_nothing_else(text: str, left: str) -> None:
    assert without_secrets(text) == left
    assert without_secrets(left) == left


WRITTEN = {
    "as it is": str,
    "in a URL": lambda secret: quote(secret, safe=""),
    "in a path": quote,
    "in a form": quote_plus,
    "in JSON": lambda secret: json.dumps(secret)[1:-1],
    "in JSON with its letters": lambda secret: json.dumps(secret, ensure_ascii=False)[1:-1],
    "by Python": lambda secret: repr(secret)[1:-1],
    "in HTML": html.escape,
    "in SQL": lambda secret: secret.replace("'", "''"),
}


@pytest.mark.parametrize("way", WRITTEN)
@given(secret=mixed, before=st.text(max_size=5), after=st.text(max_size=5))
def test_a_known_secret_is_hidden_in_every_way_in_which_programs_write_it(
    way: str, secret: str, before: str, after: str
) -> None:
    known = known_secrets([{"API_TOKEN": secret}])
    written = WRITTEN[way](secret)

    told = without_secrets(f"{before} {written} {after}", known)

    assert written not in told
    assert HIDDEN in told


@pytest.mark.parametrize("user", ["", "a", "ab", "abc"])
@given(secret=mixed)
def test_a_known_secret_is_hidden_in_base64_whoever_stands_before_it(user: str, secret: str) -> None:
    written = base64.b64encode(f"{user}:{secret}".encode()).decode()

    told = without_secrets(f"sent {written}", known_secrets([{"API_TOKEN": secret}]))

    assert written not in told
    assert len(told) <= len("sent ") + len(base64.b64encode(f"{user}:".encode())) + len(HIDDEN) + 4


@given(text=st.text(), known=st.frozensets(mixed, max_size=3))
def test_a_text_without_secrets_has_none_to_hide_any_more(text: str, known: frozenset[str]) -> None:
    once = without_secrets(text, known)

    assert without_secrets(once, known) == once


def test_a_plain_word_is_hidden_as_a_password_and_left_alone_elsewhere() -> None:
    known = known_secrets([{"DATABASE_URL": "postgresql://orders:orders@db/orders", "POSTGRES_PASSWORD": "shipments"}])

    assert known == frozenset()
    assert without_secrets("place orders, see shipments", known) == "place orders, see shipments"
    assert without_secrets("postgresql://orders:orders@db/orders", known) == "postgresql://orders:***@db/orders"


def test_of_a_url_only_its_password_is_the_secret_as_it_is_written_and_as_it_is_meant() -> None:
    assert set(secrets_of("DATABASE_URL", "postgresql://shop:p%40ss-w0rd@db:5432/shop")) == {"p%40ss-w0rd", "p@ss-w0rd"}


@pytest.mark.parametrize(
    ("variable", "value", "known"),
    [
        ("NEO4J_AUTH", "neo4j/Tr0ub4dor3", "Tr0ub4dor3"),
        ("HEADER", 'Authorization: Token token="Hunter22x"', "Hunter22x"),
        ("DATABASE_URL", "postgres://u:pa/ss#W0rd@db/x", "pa/ss#W0rd"),
        ("HEADER", "Authorization: OAuth 1/fFAGRNJru1", "1/fFAGRNJru1"),
        ("HEADER", "Authorization: Bearer abcDEF123; refresh=ghiJKL456", "abcDEF123"),
        ("HEADER", "Authorization: Bearer abcDEF123; refresh=ghiJKL456", "ghiJKL456"),
    ],
)
def test_the_secret_within_a_value_is_known_by_itself(variable: str, value: str, known: str) -> None:
    assert known in known_secrets([{variable: value}])


@pytest.mark.parametrize(
    ("value", "known"),
    [
        (
            "Authorization: AWS4-HMAC-SHA256 Credential=AKID99/2015, SignedHeaders=host;x-amz-date, Signature=fe5f80",
            {"AKID99/2015"},
        ),
        ("Authorization: Negotiate YIIabcDEF123456", {"YIIabcDEF123456"}),
        ("Authorization: ApiKey order-service abcDEF123456", {"abcDEF123456"}),
        ("Authorization: Basic dXNlcjpwYXNz==", {"dXNlcjpwYXNz=="}),
        ("Authorization: abcDEF123456 of-anna", {"abcDEF123456"}),
        ('Authorization: Digest username="order-service", response="6629fae49393"', {"6629fae49393"}),
        ("Cookie: theme=checkout-service; region=europe-west1; session=abcDEF99", {"abcDEF99"}),
        ("X-Api-Key: abcDEF99; note=place-order", {"abcDEF99"}),
        ("https://hooks.slack.com/services/T00/B00/XXXX", {"T00/B00/XXXX"}),
    ],
)
def test_schemes_and_names_and_what_is_called_after_something_are_no_secrets(value: str, known: set[str]) -> None:
    assert known_secrets([{"ANYTHING": value}]) == known


def test_what_json_can_hold_keeps_its_form() -> None:
    data: dict[str, Any] = {
        "journeys": {"get a token": "GET /token"},
        "n": 1,
        "list": [None, True, f"say {SECRET}"],
        SECRET: 2.5,
    }
    data["defects"] = {"slow": {"environment": {"order": {"DB_PASSWORD": "x", "PORT": "80"}}}}

    told = data_without_secrets(data, frozenset([SECRET]))

    assert told == {
        "journeys": {"get a token": "GET /token"},
        "n": 1,
        "list": [None, True, "say ***"],
        HIDDEN: 2.5,
        "defects": {"slow": {"environment": {"order": {"DB_PASSWORD": HIDDEN, "PORT": "80"}}}},
    }


def test_in_a_file_a_short_secret_is_hidden_behind_its_name() -> None:
    text = "environment: {order: {DB_PASSWORD: 'orders', PORT: 80}}\n# orders are placed\nAPI_KEY=a.b\n"

    told = source_without_secrets(text, [{"DB_PASSWORD": "orders", "PORT": "80", "API_KEY": "a.b"}])

    assert told == "environment: {order: {DB_PASSWORD: '***', PORT: 80}}\n# orders are placed\nAPI_KEY=***\n"


@pytest.mark.parametrize(
    "text",
    [
        "a" * 30_000,
        "a://" * 8_000,
        "Authorization: " * 2_000,
        "x=" * 15_000,
        "eyJ." * 8_000,
        "://:@" * 6_000,
        "mysql://a:" * 6_000,
        "mysql://a:" + "b@" * 20_000 + " ",
        "postgres://a:" + ":" * 100_000,
        "mssql://a:" + "b/" * 50_000,
        "mssql://a:b/" * 9_000,
        "authorization: a " + "b=c, " * 10_000,
        "authorization: a " + "b=c; " * 20_000,
        "authorization: a " + "b=c;" * 25_000 + '"',
        "authorization: a b=c" + " " * 100_000,
        "authorization: " + "a " * 50_000,
        "authorization: " + "a-" * 50_000,
        "authorization: basic" + "\n" * 100_000,
        "authorization: a" + " " * 100_000,
        "cookie:basic " * 8_000,
        'cookie:a b="' * 9_000,
        "authorization: a " + "b=c " * 25_000,
        "authorization: a b=c " * 5_000,
        "authorization: " + "a," * 50_000,
        "authorization: a" + ", " * 50_000,
        "authorization: a;" * 6_000,
        "authorization:" + "[" * 100_000,
        "hooks.slack.com/services/" * 4_000,
        "hooks.slack.com/services" + "\\" * 100_000,
        "hooks.slack.com/services/" + "\\/" * 50_000,
        "discord.com/api/v" + "1" * 100_000,
        'authorization: a b="' * 3_000,
        "token" * 10_000 + "=",
        "-----BEGIN " * 3_000,
        "-----BEGIN PRIVATE KEY-----" * 2_500 + '"',
        "-----BEGIN PRIVATE KEY-----" + "-" * 60_000 + '"',
        "-----BEGIN PRIVATE KEY-----" + "A-" * 30_000 + '"',
    ],
    ids=lambda text: text[:30],
)
def test_a_text_made_to_be_slow_is_not(text: str) -> None:
    begin = time.process_time()
    without_secrets(text, frozenset([SECRET]))

    assert time.process_time() - begin < 1.0


@pytest.mark.parametrize(
    ("text", "lines", "left"),
    [
        (f"one\n{KEY}\ntwo", 20, ("one", "***", "two")),
        (f"one\n{KEY}\ntwo", 2, ("***", "two")),
        (f"one\n{KEY[:45]}", 20, ("one", "***")),
        (f"{KEY[40:]}\ntwo\n{KEY}", 20, ("***", "two", "***")),
        (f"{KEY[:27]} (is expected)\n{KEY[-25:]}", 20, (f"{KEY[:27]} (is expected)", KEY[-25:])),
        (f"starting\nno {KEY[-25:]} in it\nexit 1", 20, ("starting", f"no {KEY[-25:]} in it", "exit 1")),
        (f"starting\n{KEY[40:]}\nexit 1", 20, ("***", "exit 1")),
        ("one\ntwo", 1, ("two",)),
        ("one\ntwo", 0, ()),
    ],
)
def test_of_a_private_key_no_line_is_among_the_last_ones(text: str, lines: int, left: tuple[str, ...]) -> None:
    assert last_lines(text, lines) == left


@pytest.mark.parametrize("text", ["-" * 100_000, "-----END " * 12_000, "-----END PRIVATE KEY----" * 5_000, KEY * 1_500])
def test_the_last_lines_of_a_text_made_to_be_slow_come_at_once(text: str) -> None:
    begin = time.process_time()
    last_lines(f"PRIVATE KEY-----{text}", 20)

    assert time.process_time() - begin < 1.0
