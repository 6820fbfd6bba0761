"""What is a secret, and text without it.

A secret is known by the name of its variable, by the place where it stands (the password in a URL, what follows
`Authorization:`), or by its shape (tokens that tell what they are). Those that were found in a system are blotted out
wherever they turn up, in each of the ways in which programs write them; a plain word such as `orders` is not, since it
may mean something else there: it is hidden where it stands as a password alone.
"""

from __future__ import annotations

import base64
import html
import json
import re
from collections.abc import Iterable, Iterator, Mapping
from functools import lru_cache
from typing import Any
from urllib.parse import quote, quote_plus, unquote

HIDDEN = "***"

_GLUED = "(?:passwords?|passwd|secrets?|tokens?)"
"""Words that are meant whatever stands before them: PGPASSWORD, GITHUBTOKEN."""

_WORDS = (
    "(?:db|user|admin|root|my|pg|sql|smtp|imap|mail|ftp|ldap|redis|login|app)?pass|pass(?:words?|wd|phrases?|codes?)|pwd|"
    "credentials?|authorization|cookie|signature|jwt|bearer|dsn|"
    "(?:api|access|private|signing|encryption|auth|session|secret|shared|account|master|service|webhook)[_.-]?keys?"
)
_NAME = re.compile(rf"(?<![a-z])(?:[a-z]*{_GLUED}|{_WORDS})(?![a-z])|(?:^|[_.-])auth$", re.IGNORECASE)
"""Names of variables whose values are secrets. What stands between letters is part of another word: `compass`, `tokenizer`."""

_ABOUT = re.compile(
    r"(?:^|[_.-])(?:file|path|dir|ttl|url|uri|host|port|user|username|name|endpoint|length|len|size|count|max|min|limit|limits|"
    r"lifetime|expiry|expires|timeout|seconds|minutes|policy|enabled|required|type|issuer|audience|algorithm)$|^max_|^(?:old)?pwd$",
    re.IGNORECASE,
)
"""Names that tell something about a secret, and are none: PASSWORD_FILE, TOKEN_TTL, TOKEN_URL; PWD is a shell's folder."""

_KEY = re.compile(r"(?:^|[_.-])keys?$", re.IGNORECASE)
"""Names that may mean a secret, or a column: their values tell which. STRIPE_KEY, PARTITION_KEY."""

_HEX = re.compile(r"[0-9a-f]{24,}|[0-9A-F]{24,}")
_DOTTED = re.compile(r"(?:[A-Z]?[a-z]+\d{0,3}\.)+[A-Z]?[a-z]+\d{0,3}")
"""What is drawn at random though of one case, and what is not though of all: `orders.v2.Created`."""

_CALLED_AFTER = re.compile(r"(?:[A-Z]?[a-z]+\d{0,3}[._-])+[A-Z]?[a-z]*\d{0,3}")
_FIRST_OF_MORE = re.compile(r"[A-Za-z][\w-]*(?=[ \t])")
_NAME_BEFORE = re.compile(r"^[A-Za-z][\w.-]*=(?=[^=])")
"""In headers: `checkout-service`, the scheme, and the names in `name=value`, which may all mean something elsewhere."""

_IS_IT = re.compile(r"(?:secret|token|password|passwd|webhook)s?$", re.IGNORECASE)
"""Names of what is secret as a whole, though it be a URL: WEBHOOK_SECRET."""

_NO_SECRET = re.compile(r"\d{0,6}|true|false|yes|no|on|off|none|null|\*+|\$\{.*\}|\{.*\}", re.IGNORECASE | re.DOTALL)

_URL = re.compile(
    r"(?<![A-Za-z0-9+.-])([A-Za-z][A-Za-z0-9+.-]{0,30}://)([^\s/?#@:\"'<>\\]{0,512}):([^\s/?#\"'<>\\]{1,512})@(?=[^\s@])"
)
_URL_TOKEN = re.compile(r"(?<![A-Za-z0-9+.-])([A-Za-z][A-Za-z0-9+.-]{0,30}://)([^\s/?#@:\"'<>\\]{20,512})@(?=[^\s@])")
_RAW = r"(?:[^\s\"'<>\\,:]|:(?!//)){0,512}"
_DATABASE_URL = re.compile(
    r"(?<![A-Za-z0-9+.-])((?:postgres(?:ql)?|mysql|mariadb|mongodb|rediss?|amqps?)(?:\+[a-z0-9]{1,20})?://)"
    rf"([^\s/?#@:\"'<>\\\[]{{0,512}}):((?!@|\d{{1,5}}[/?#]|\$?\{{){_RAW})@(?=[^\s@])"
)
"""Of these clients some take a password as it is, with what ends the host of any other URL."""

RAW_PASSWORD = re.compile(
    r"(?<![A-Za-z0-9+.-])([A-Za-z][A-Za-z0-9+.-]{0,30}://)([^\s/?#@:\"'<>\\\[]{0,512}):"
    rf"((?!\d{{1,5}}[/?#;|)&]|\$?\{{)[^\s/?#@\"'<>\\,:]{{1,512}}[/?#]{_RAW})@(?=[^\s@])"
)
"""Where a URL has its port, and there is none: a password that holds what ends a host, up to the last `@`."""

_SET = r"(\\?[\"']?\s{0,8}[:=]\s{0,8}\[?+(?:b(?=\\?[\"']))?+\\?[\"']?)(?!\*\*\*)"
_WORD = r"[^\s\"'\\,;}\])>]{1,4096}"
_QUOTED = r"[A-Za-z0-9_.-]{1,64}=\\{0,3}\"[^\"\\\r\n]{0,2048}\\{0,3}\""
_MORE = r"(?:;[^\"'\\\r\n}\])>]{0,4096})?"
_AUTHORIZATION = re.compile(
    rf"(?i)\b((?:proxy-)?authorization){_SET}((?:(?:basic|bearer|negotiate|ntlm)\s+{_WORD}|"
    rf"(?:{_QUOTED}|{_WORD})(?:[ \t,;]{{1,8}}(?:{_QUOTED}|{_WORD})){{0,99}}){_MORE})"
)
"""Of a scheme that does not have one word all that stands in the line: which of it is the secret, the scheme alone tells."""

_PARAMETER = rf"(?:{_QUOTED}|[A-Za-z0-9_.-]{{1,64}}={_WORD})"
_HEADER = re.compile(
    rf"(?i)\b(x-api-key|x-auth-token|(?:set-)?cookie){_SET}"
    rf"((?:[a-z][a-z0-9-]{{1,30}}[ \t]{{1,8}}{_PARAMETER}(?:[ \t]{{0,8}}[,;][ \t]{{0,8}}{_PARAMETER}){{0,30}}|"
    rf"(?:[a-z][\w-]{{0,30}}[ \t]+)?{_WORD}){_MORE})"
)
_SCHEME = re.compile(r"\b((?i:bearer|basic))(\s+)(?=[A-Za-z0-9._~+/=-]*[A-Z0-9._~+/=])([A-Za-z0-9._~+/-]{8,4096}={0,2})")
_GIVEN = re.compile(
    rf"(?i)(?<![a-z])((?:[a-z]{{0,20}}{_GLUED}|{_WORDS})\\?[\"']?=\\?[\"']?)(?!\*\*\*)"
    r"([^\s\"'&;,<>{}()\\]{1,4096})"
)
_SHAPES = re.compile(
    r"\b(?:AKIA|ASIA|AROA)[A-Z0-9]{16}\b"  # AWS access keys
    r"|\bgh[pousr]_[A-Za-z0-9]{30,255}\b|\bgithub_pat_[A-Za-z0-9_]{30,255}\b|\bglpat-[A-Za-z0-9_-]{20,}\b"
    r"|\bxox[abeoprs]-[A-Za-z0-9-]{10,}|\b[rs]k_(?:live|test)_[A-Za-z0-9]{10,}\b|\bAIza[A-Za-z0-9_-]{35}\b"
    r"|\bsk-[A-Za-z0-9_-]{20,}|\beyJ[A-Za-z0-9_-]{8,}\.[A-Za-z0-9_-]{8,}\.[A-Za-z0-9_-]*"
    r"|-----BEGIN [A-Z ]{0,30}PRIVATE KEY-----[A-Za-z0-9+/=\s\\:,]*+(?:-(?!----(?:BEGIN|END) )[A-Za-z0-9+/=\s\\:,]*+)*+"
    r"(?:-----END [A-Z ]{0,30}PRIVATE KEY-----|(?=-----BEGIN )|\Z)"  # no key goes on beyond the begin of another
)

_SLASH = r"\\{0,3}/"
_WEBHOOK = re.compile(
    rf"(hooks\.slack\.com{_SLASH}(?:services|workflows|triggers){_SLASH}|"
    rf"discord(?:app)?\.com{_SLASH}api{_SLASH}(?:v\d{{1,3}}{_SLASH})?webhooks{_SLASH})((?:[\w-]|{_SLASH}){{10,}})"
)
"""Group 2 is the secret; JSON may write each slash as `\\/`."""

_HALF_A_KEY = re.compile(r"\A(?:-(?!----BEGIN )|[^-])*?-----END [A-Z ]{0,30}PRIVATE KEY-----")
_OF_A_KEY = re.compile(r"[A-Za-z0-9+/=]{12,}")

_BEGINNINGS = (
    "AKIA",
    "ASIA",
    "AROA",
    "gh",
    "glpat-",
    "xox",
    "k_live_",
    "k_test_",
    "AIza",
    "sk-",
    "eyJ",
    "-----BEGIN",
)
"""One of these is in every text that a shape can be found in: to look for them first takes a tenth of the time."""

_OF_HEADERS = ("auth", "api-key", "cookie", "bearer", "basic")
"""One of these is in every text that a header, or its value, can be found in."""

_CLASSES = (re.compile("[a-z]"), re.compile("[A-Z]"), re.compile("[0-9]"), re.compile("[^A-Za-z0-9]"))


def is_secret(variable: str, value: str) -> bool:
    """Whether a variable's value is a secret, or holds one: by its name, by its place, or by its shape."""
    return next(iter(secrets_of(variable, value)), None) is not None


def secrets_of(variable: str, value: str) -> Iterator[str]:
    """The secrets that a variable's value holds: all of it, or the password in its URL."""
    if _is_named(variable, value) and not _NO_SECRET.fullmatch(value):
        yield value
        yield from re.split("[:/]", value, maxsplit=1)[1:] if variable.lower().endswith("auth") else ()  # NEO4J_AUTH=neo4j/…
    for found in (found for url in (_DATABASE_URL, RAW_PASSWORD, _URL) for found in url.finditer(value)):
        yield found[3]
        yield unquote(found[3])
    yield from (found[2] for found in _URL_TOKEN.finditer(value) if _is_unguessable(found[2]))
    for shape in (_AUTHORIZATION, _HEADER, _SCHEME):
        yield from (part for found in shape.finditer(value) for part in _in_header(found[3]))
    yield from (found[2] for found in _WEBHOOK.finditer(value))
    yield from (found[2] for found in _GIVEN.finditer(value))
    yield from (found[0] for found in _SHAPES.finditer(value))


def _in_header(said: str) -> Iterator[str]:
    """What a header says that may be a secret: neither its scheme, nor the names in it, nor what is called after something."""
    if '"' in said:
        words = re.findall(r'="([^"\\]+)', said)
    else:
        first = _FIRST_OF_MORE.match(said)
        rest = said if first is None or _is_random(first[0]) else said[first.end() :]
        words = [_NAME_BEFORE.sub("", word) for word in re.split(r"[\s;,]+", rest)]
    yield from (word for word in words if word and _CALLED_AFTER.fullmatch(word) is None)


def _is_named(variable: str, value: str) -> bool:
    words = re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", variable)
    if _ABOUT.search(words) is not None:
        return False
    if _NAME.search(words) is not None:
        return _IS_IT.search(words) is not None or not _is_plain_url(value)
    return _KEY.search(words) is not None and _is_random(value)


def _is_random(value: str) -> bool:
    """Whether it is such as only a machine thinks of: no word, no words with dots, no path, no address."""
    if _DOTTED.fullmatch(value) is not None:
        return False
    return _HEX.fullmatch(value) is not None or (
        len(value) >= 12 and value[0] not in "/.~" and "://" not in value and all(kind.search(value) for kind in _CLASSES[:3])
    )


def _is_plain_url(value: str) -> bool:
    return re.fullmatch(r"[A-Za-z][A-Za-z0-9+.-]*://[^\s@?]*", value) is not None


def known_secrets(environments: Iterable[Mapping[str, str]]) -> frozenset[str]:
    """The secrets in these environments that are to be blotted out wherever they turn up."""
    found = (secret for variables in environments for item in variables.items() for secret in secrets_of(*item))
    return frozenset(filter(_is_unguessable, found))


def _is_unguessable(secret: str) -> bool:
    """Long enough, or mixed enough, not to be a word that means something else where it turns up."""
    kinds = sum(1 for kind in _CLASSES if kind.search(secret))
    return len(secret) >= 16 or (len(secret) >= 8 and kinds >= 2)


def without_secrets(text: str, known: Iterable[str] = ()) -> str:
    """The text with `***` in the place of every secret: of those that are known, and of what looks like one."""
    chosen = known if isinstance(known, frozenset) else frozenset(known)
    if chosen:
        text = _pattern(chosen).sub(HIDDEN, text)
    if any(begin in text for begin in _BEGINNINGS):
        text = _SHAPES.sub(HIDDEN, text)
    if "hooks" in text:
        text = _WEBHOOK.sub(rf"\1{HIDDEN}", text)
    if "://" in text and "@" in text:
        text = _URL_TOKEN.sub(lambda found: f"{found[1]}{HIDDEN}@" if _is_unguessable(found[2]) else found[0], text)
        for url in (_DATABASE_URL, RAW_PASSWORD, _URL):
            text = url.sub(rf"\1\2:{HIDDEN}@", text)
    small = text.lower()
    if any(word in small for word in _OF_HEADERS):
        text = _AUTHORIZATION.sub(rf"\1\2{HIDDEN}", text)
        text = _HEADER.sub(rf"\1\2{HIDDEN}", text)
        text = _SCHEME.sub(rf"\1\2{HIDDEN}", text)
    if "=" in text:
        text = _GIVEN.sub(lambda found: found[0] if _NO_SECRET.fullmatch(found[2]) else f"{found[1]}{HIDDEN}", text)
    return text


def last_lines(text: str, lines: int) -> tuple[str, ...]:
    """The last lines of a text, without private keys: single lines of one look like no secret, nor does its second half."""
    if "PRIVATE KEY-----" in text:
        text = _SHAPES.sub(HIDDEN, text)
        half = _HALF_A_KEY.match(text)
        if half is not None and any(map(_is_random, _OF_A_KEY.findall(half[0]))):  # or it only speaks of a key's end
            text = HIDDEN + text[half.end() :]
    return tuple(text.splitlines()[-lines:]) if lines > 0 else ()


def data_without_secrets(data: Any, known: Iterable[str] = (), variable: str | None = None) -> Any:
    """The same for what JSON can hold, which stays whole: in every text and key, and by their names under `environment`."""
    if isinstance(data, str):
        return HIDDEN if variable is not None and is_secret(variable, data) else without_secrets(data, known)
    if isinstance(data, Mapping):
        found = {}
        for key, item in data.items():
            named = str(key) if variable is not None or key == "environment" else None
            found[without_secrets(str(key), known)] = data_without_secrets(item, known, named)
        return found
    if isinstance(data, list | tuple):
        return [data_without_secrets(item, known, variable) for item in data]
    return data


def source_without_secrets(text: str, environments: Iterable[Mapping[str, str]], known: Iterable[str] = ()) -> str:
    """The same for a file in which these environments are written, as in YAML: each value is hidden behind its name."""
    for name, value in (item for variables in environments for item in variables.items() if is_secret(*item)):
        text = re.sub(rf"({re.escape(name)}[\"']?\s*[:=]\s*[\"']?){re.escape(value)}", rf"\1{HIDDEN}", text)
    return without_secrets(text, known)


@lru_cache(maxsize=16)
def _pattern(known: frozenset[str]) -> re.Pattern[str]:
    """All known secrets as programs write them, the longest first: one may be a part of another."""
    ways = {way for secret in known for way in _ways(secret)}
    return re.compile("|".join(re.escape(way) for way in sorted(ways, key=lambda way: (-len(way), way))))


def _ways(secret: str) -> Iterator[str]:
    yield secret
    yield from (
        quote(secret, safe=""),
        quote(secret),
        quote_plus(secret),
        html.escape(secret),
        html.escape(secret, quote=False),
    )
    yield from (json.dumps(secret)[1:-1], json.dumps(secret, ensure_ascii=False)[1:-1], repr(secret)[1:-1])
    yield from (secret.replace("'", "''"), secret.encode("unicode_escape").decode("ascii"))
    yield from _in_base64(secret.encode("utf-8", "surrogatepass"))
    yield from filter(_is_unguessable, secret.splitlines() if "\n" in secret else ())


def _in_base64(secret: bytes) -> Iterator[str]:
    """What stays the same of it in base64, whatever stands before it and after it, as in `Basic` with a user's name."""
    for before in range(3):
        written = base64.b64encode(b"\0" * before + secret).decode("ascii")
        begin, end = (0, 2, 3)[before], len(written) - (4 if (before + len(secret)) % 3 else 0)
        whole = written[begin:end]
        if len(whole) >= 8:
            yield whole
            yield whole.translate(str.maketrans("+/", "-_"))
