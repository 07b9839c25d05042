"""Secrets in texts, and what is none."""

from __future__ import annotations

import re
import time
import uuid

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mqkit.logging.masking import MAX_MASKED, Masker

MASKER = Masker(["iban", "customer-name", re.compile(r"ACC-[0-9]+")])

NAMES = ["password", "DB_PASSWORD", "dbPassword", "passwd", "pwd", "secret", "client_secret"]
NAMES += ["token", "access_token", "refreshToken", "api_key", "X-Api-Key", "apikey", "iban"]

FORMS = [
    "{name}={secret}",
    "connect failed: {name}={secret} host=db",
    "{name}: {secret}",
    "{name} = {secret}",
    "{{'{name}': '{secret}', 'id': 7}}",
    '{{"id": 7, "{name}": "{secret}"}}',
    '{{"{name}":"{secret}"}}',
    '"{{\\"{name}\\": \\"{secret}\\"}}"',
    "Settings({name}='{secret}', host='db')",
    "Settings(host='db', {name}=SecretStr('{secret}'))",
    "https://host/path?{name}={secret}&user=bob",
    "[('host', 'x'), ('{name}', '{secret}')]",
    "--{name} {secret} --verbose",
    "<{name}>{secret}</{name}>",
    "{{'{name}': ['{secret}', 'other']}}",
    "{{'{name}': {{'inner': '{secret}'}}}}",
    "the {name} '{secret}' is wrong",
]
"""Texts in which a secret stands after its name."""

FIXED_FORMS = [
    "amqp://user:{secret}@host:5672/vhost",
    "cannot connect to postgresql+asyncpg://ledger:{secret}@db/ledger?ssl=true: refused",
    "amqp://u:{secret}@a,b:5672 and redis://:{secret}@c/0",
    "Authorization: Bearer {secret}",
    "authorization: Basic {secret} was refused",
    "{{'Authorization': 'Bearer {secret}'}}",
    "[(b'authorization', b'Bearer {secret}')]",
    "Cookie: session={secret}; other={secret}",
    "1 error for Order\nname\n  too long [type=x, input_value='{secret}', input_type=str]",
    "(IntegrityError) x [SQL: INSERT] [parameters: (1, ['{secret}'], 'a] b')] (Background on: x)",
    "null value in column\nDETAIL:  Failing row contains (1, null, {secret}).",
    "duplicate key DETAIL: Key (token)=({secret}) already exists.",
    "https://host/login?next=%2Fpay%3Ftoken%3D{secret}",
    "-----BEGIN RSA PRIVATE KEY-----\n{secret}\n-----END RSA PRIVATE KEY-----",
]

SECRETS = st.text("abcXYZ019-_.+/~$!%*", min_size=6, max_size=30).map(lambda text: f"q{text}Q")


@given(st.sampled_from(FORMS), st.sampled_from(NAMES), SECRETS)
def test_no_secret_stands_after_its_name(form: str, name: str, secret: str) -> None:
    """However the name is written and the value is quoted."""
    masked = MASKER.mask(form.format(name=name, secret=secret))
    assert secret not in masked
    assert "***" in masked
    assert MASKER.mask(masked) == masked


@given(st.sampled_from(FIXED_FORMS), SECRETS)
def test_no_secret_is_left_where_such_stand(form: str, secret: str) -> None:
    """Passwords of URLs, headers, keys, and what pydantic quotes of a body."""
    masked = MASKER.mask(form.format(secret=secret))
    assert secret not in masked
    assert MASKER.mask(masked) == masked


@pytest.mark.parametrize(
    "secret",
    [
        "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxMjM0NTY3ODkwIn0.dozjgNryP4J3jVmNHl0w5N_XgL0n3I9PlFUP0THsR8U",
        "ghp_16C7e42F292c6912E7710c838347Ae178B4a",
        "sk_live_4eC39HqLyjWDarjtT1zdp7dc",
        "Zx81kQw7Lm20PpRt55VvBb09Nn3Kk4Jj6Hh7Gg8Ff",
        "ACC-4711",
    ],
)
def test_a_token_is_known_by_its_form(secret: str) -> None:
    """Wherever it stands, also in a text that was escaped."""
    for text in (secret, f"got {secret}.", f"'{secret}'", f"x\\n{secret}\\n", f"?t={secret}&a=1"):
        assert secret not in MASKER.mask(text)


@pytest.mark.parametrize(
    "text",
    [
        "KeyError: 'password'",
        'password authentication failed for user "ledger"',
        "missing fields ['password', 'email']",
        "password=None, token='', secret=null",
        "max_tokens=100 token_count=7 tokens: 12",
        "bearer of bad news; Basic authentication failed",
        "https://host:8080/a@b and http://[::1]:5672/x",
        "order 2026-11-30 02:22:57.123456 of 1764469377123456 took 0.4111111111111111 s",
        "DE89 3704 0044 0532 0130 00 and DE89370400440532013000",
        "amount 1,234,567.89 EUR, 100000000000.00, id 12345678901234567890123",
        "9b2c1f9e0d4a4c6e8f7a1b2c3d4e5f60718293a4b5c6d7e8f90a1b2c3d4e5f60",
        "mqkit.errors.DecodeError at /srv/app/shop/handlers/ledger.py:42 in Ledger.post",
        "passenger=Bob, spinning=1, keypad: 3, monkey = 7, compass: N",
        "amqp://guest@127.0.0.1:5672/",
    ],
)
def test_ordinary_text_stays_as_it_is(text: str) -> None:
    """Ids, amounts, times, IBANs, and names of secrets without a value."""
    assert Masker().mask(text) == text


@given(st.uuids(), st.datetimes(), st.decimals(0, 10**9, places=2))
def test_ids_times_and_amounts_stay(id_: uuid.UUID, moment: object, amount: object) -> None:
    """Whatever digits they have."""
    text = f"message {id_} of {moment} over {amount} EUR"
    assert Masker().mask(text) == text


@given(st.text("pas=word:'\"\\({[]}),;&| \n4-/@eyJ.", max_size=400))
def test_whatever_it_is_given(text: str) -> None:
    """It ends, and what it returns is masked once for all."""
    once = MASKER.mask(text)
    assert isinstance(once, str)


PARTS = ["a", "eyJ", "://a:", "password=", "password=(", "4 ", "password='\\'", "\\", "@:", "://"]
PARTS += [
    "[parameters: ",
    "Failing row contains (",
    "input_value=",
    "token)=(",
    "(",
    "password=['",
    "password=,aaaa",
    "AB12",
    "DE89 ",
    "Bearer ",
    "--",
    "'",
    "&a",
]
PARTS += ["-----BEGIN PRIVATE KEY", "-----BEGIN PRIVATE KEY-----", 'password="\\', "x-amz-"]


@pytest.mark.parametrize("part", PARTS)
def test_hostile_text_takes_time_in_proportion_to_its_length(part: str) -> None:
    """A text of ten times the length takes no hundred times as long."""

    def seconds(length: int) -> float:
        text = (part * length)[:length]
        took = []
        for _ in range(2):
            began = time.process_time()
            MASKER.mask(text)
            took.append(time.process_time() - began)
        return min(took)

    assert seconds(MAX_MASKED) < max(40 * seconds(MAX_MASKED // 10), 0.2)


def test_a_long_text_is_cut_where_no_secret_is() -> None:
    """Half a secret at the edge would not be known as one."""
    for size in range(24):
        text = "x " * ((MAX_MASKED - size) // 2) + "4111 1111 1111 1111 ghp_16C7e42F292c6912E771"
        masked = MASKER.mask(text)
        assert len(masked) <= MAX_MASKED + 10
        assert "4111" not in masked
        assert "ghp_" not in masked


@pytest.mark.parametrize(
    ("name", "hidden"),
    [
        ("password", True),
        ("db_password", True),
        ("IBAN", True),
        ("pin", True),
        ("iban_count", False),
        ("spin", False),
        ("tokens", False),
        ("id", False),
        ("", False),
    ],
)
def test_a_fields_name_says_whether_it_is_secret(name: str, hidden: bool) -> None:
    """As before its value in a text."""
    assert MASKER.hides(name) == hidden


@pytest.mark.parametrize("mask", [7, "", " ", re.compile(b"x"), None])
def test_a_mask_is_a_name_or_a_pattern(mask: object) -> None:
    """Anything else is refused."""
    with pytest.raises(TypeError, match="the name of a field, or a compiled pattern"):
        Masker([mask])  # type: ignore[list-item]
