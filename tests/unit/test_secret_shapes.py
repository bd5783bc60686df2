"""Every secret has the shape and the least length of its scheme, or nothing starts: what is short can be guessed."""

import base64
import os
from collections.abc import Mapping
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ec import SECP384R1, generate_private_key
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from deploy.embedded.dev_secrets import development_secrets
from deploy.wiring import load
from schemas.envelope import Delivery
from schemas.errors import Misconfigured, RejectedDelivery
from schemas.providers import PROVIDERS, verify
from schemas.providers.base import Secrets, hmac_sha256
from schemas.providers.keys import ed25519_public_key
from schemas.settings import VARIABLES
from tests.support import signing, signing_telnyx
from tests.support.cases import requests_of

NOW = 1_795_950_000
GOOD = signing.SECRETS | {"ADMIN_API_KEY": "sixteen letters!", "PUBLIC_URL": "https://hooks.example.com"}


def whsec(size: int) -> str:
    return "whsec_" + base64.b64encode(bytes(range(size))).decode()


def b64(raw: bytes) -> str:
    return base64.b64encode(raw).decode()


P384 = b64(generate_private_key(SECP384R1()).public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo))
PRIME = 2**255 - 19
ORDER_8 = 0x05FC536D880238B13933C6D305ACDFD5F098EFF289F4C345B027B2C28F95E826
SMALL_ORDERS = [0, 1, PRIME - 1, PRIME, PRIME + 1, ORDER_8, PRIME - ORDER_8]
NO_POINTS = [
    b64((y | sign << 255).to_bytes(32, "little")) for y in (*SMALL_ORDERS, 2, PRIME + 3, 2**255 - 1) for sign in (0, 1)
]

REFUSED = [
    *(
        (name, value)
        for name in (
            "WHATSAPP_APP_SECRET",
            "WHATSAPP_VERIFY_TOKEN",
            "TWILIO_AUTH_TOKEN",
            "AIRCALL_WEBHOOK_TOKEN",
            "HUBSPOT_CLIENT_SECRET",
            "RETELL_API_KEY",
            "GOOGLE_CALENDAR_CHANNEL_TOKEN",
        )
        for value in ("1", "1234567", "two\nlines", "two words", "two\u00a0words")
    ),
    ("TOKEN_DIGEST_KEY", "1234567"),
    ("TOKEN_DIGEST_KEY", " " * 16),
    ("TWILIO_AUTH_TOKEN", f"{signing.TWILIO},x"),
    ("STRIPE_WEBHOOK_SECRET", "whsec_"),
    ("STRIPE_WEBHOOK_SECRET", "whsec_1"),
    ("STRIPE_WEBHOOK_SECRET", "whsec_ab"),
    ("STRIPE_WEBHOOK_SECRET", "whsec_test"),
    ("STRIPE_WEBHOOK_SECRET", "whsec_1234567"),
    ("STRIPE_WEBHOOK_SECRET", "whsec_12 34"),
    ("STRIPE_WEBHOOK_SECRET", "whsec_1234 5678"),
    ("STRIPE_WEBHOOK_SECRET", "sk_test_4eC39HqLyjWDarjtT1zdp7dc"),
    ("STRIPE_WEBHOOK_SECRET", f"{signing.STRIPE},whsec"),
    ("STANDARD_WEBHOOKS_SECRET", f"v1,{signing.STANDARD}"),
    ("STANDARD_WEBHOOKS_SECRET", f"v1 {signing.STANDARD}"),
    ("STANDARD_WEBHOOKS_SECRET", f"{signing.STANDARD},v1"),
    ("STANDARD_WEBHOOKS_SECRET", f"v1a,whpk_{signing_telnyx.TELNYX}"),
    ("STANDARD_WEBHOOKS_SECRET", "v1"),
    ("STANDARD_WEBHOOKS_SECRET", "whsec_"),
    ("STANDARD_WEBHOOKS_SECRET", whsec(1)),
    ("STANDARD_WEBHOOKS_SECRET", whsec(23)),
    ("STANDARD_WEBHOOKS_SECRET", whsec(65)),
    ("STANDARD_WEBHOOKS_SECRET", "whsec_not base64, at all, of anything!!"),
    ("STANDARD_WEBHOOKS_SECRET", f"whpk_{b64(bytes(31))}"),
    ("STANDARD_WEBHOOKS_SECRET", f"whsk_{whsec(32)}"),
    ("TELNYX_PUBLIC_KEY", b64(bytes(31))),
    ("TELNYX_PUBLIC_KEY", base64.b64decode(signing_telnyx.TELNYX).hex()),
    *((name, prefix + key) for key in NO_POINTS for name, prefix in (
        ("TELNYX_PUBLIC_KEY", ""), ("STANDARD_WEBHOOKS_SECRET", "whpk_"),
    )),
    ("SENDGRID_PUBLIC_KEY", P384),
    ("SENDGRID_PUBLIC_KEY", signing.SECRETS["SENDGRID_PUBLIC_KEY"][:-8]),
    ("GOOGLE_CALENDAR_CHANNEL_TOKEN", "first-token,second-token"),
]  # fmt: skip


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where nothing is set."""
    for name in VARIABLES:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def given(monkeypatch: pytest.MonkeyPatch, values: Mapping[str, str]) -> None:
    for name, value in values.items():
        monkeypatch.setenv(name, value)


@pytest.mark.parametrize(("name", "value"), REFUSED)
def test_what_is_no_secret_of_its_scheme_is_refused_by_name_and_not_quoted(
    folder: Path, monkeypatch: pytest.MonkeyPatch, name: str, value: str
) -> None:
    given(monkeypatch, GOOD | {name: value})
    with pytest.raises(Misconfigured) as refused:
        load()
    said = str(refused.value)
    source = next((one for one in PROVIDERS.values() if name == one.verify_token_variable), None)
    assert (f"source {source.name}" if source else name) in said
    assert not any(part in said for part in value.split(",") if len(part) > 7)


def test_a_secret_that_is_long_only_with_its_prefix_hears_that_the_prefix_does_not_count(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    given(monkeypatch, GOOD | {"STRIPE_WEBHOOK_SECRET": "whsec_ab"})
    with pytest.raises(Misconfigured, match="at least 8 printable characters after whsec_"):
        load()


@pytest.mark.parametrize("variable", ["STRIPE_WEBHOOK_SECRET", "STANDARD_WEBHOOKS_SECRET", "TWILIO_AUTH_TOKEN",
                                      "TELNYX_PUBLIC_KEY", "SENDGRID_PUBLIC_KEY", "AIRCALL_WEBHOOK_TOKEN"])  # fmt: skip
def test_a_comma_separates_the_secrets_that_providers_issue(
    folder: Path, monkeypatch: pytest.MonkeyPatch, variable: str
) -> None:
    old, new = GOOD[variable], development_secrets({}, {})[variable]
    given(monkeypatch, GOOD | {variable: f"{new}, {old}"})
    name = next(one.name for one in PROVIDERS.values() if one.secret_variable == variable)
    assert load().sources[name].secrets.values == (new, old)


def test_secrets_at_the_limits_are_taken(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for secret in (whsec(24), whsec(64), whsec(32).removeprefix("whsec_"), f"whpk_{signing_telnyx.TELNYX}"):
        given(monkeypatch, GOOD | {"STANDARD_WEBHOOKS_SECRET": secret, "TWILIO_AUTH_TOKEN": "12345678"})
        assert load().sources["standardwebhooks"].secrets.values == (secret,)


def test_a_token_that_a_user_chose_may_hold_a_comma_in_redrive_toml(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    toml = '[sources.google_calendar]\nprovider = "google_calendar"\nsecrets = ["first,token", "second-token"]\n'
    (folder / "redrive.toml").write_text(toml)
    given(monkeypatch, {"TOKEN_DIGEST_KEY": "digest-key"})
    assert load().sources["google_calendar"].secrets.values == ("first,token", "second-token")


@pytest.mark.parametrize(
    ("toml", "said"),
    [
        ('provider = "stripe"\nsecrets = ["whsec_of_the_shop", "short"]', "source s (STRIPE_WEBHOOK_SECRET), secret 2"),
        ('provider = "whatsapp"\nsecrets = ["app-secret"]\nverify_token = "v"', "the verify token: expected"),
        ('provider = "whatsapp"\nverify_token = "verify-token"', "has a verify token and no secret"),
        ('provider = "stripe"\nsecrets = ["whsec_of_the_shop"]\nverify_token = "verify-token"', "has no handshake"),
        (f'provider = "standardwebhooks"\nsecrets = ["v1,{signing.STANDARD}"]', "secret 1: expected whsec_"),
        ('provider = "twilio"\nsecrets = [" padded-token"]', "no white space"),
    ],
)
def test_the_same_holds_for_sources_of_redrive_toml(folder: Path, toml: str, said: str) -> None:
    (folder / "redrive.toml").write_text(f"[sources.s]\n{toml}\n")
    with pytest.raises(Misconfigured) as refused:
        load()
    assert said in str(refused.value)


@pytest.mark.parametrize(
    ("half", "other"),
    [
        ("WHATSAPP_VERIFY_TOKEN", "WHATSAPP_APP_SECRET"),
        ("TELNYX_PRIVATE_KEY", "TELNYX_PUBLIC_KEY"),
        ("SENDGRID_PRIVATE_KEY", "SENDGRID_PUBLIC_KEY"),
        ("AIRCALL_WEBHOOK_TOKEN", "TOKEN_DIGEST_KEY"),
        ("GOOGLE_CALENDAR_CHANNEL_TOKEN", "TOKEN_DIGEST_KEY"),
    ],
)
def test_half_of_a_pair_is_refused_with_the_name_of_the_other(
    folder: Path, monkeypatch: pytest.MonkeyPatch, half: str, other: str
) -> None:
    given(monkeypatch, {half: development_secrets({}, {})[half], "STRIPE_WEBHOOK_SECRET": signing.STRIPE})
    with pytest.raises(Misconfigured, match=other):
        load()


def test_a_verify_token_that_redrive_toml_refers_to_is_no_lone_half(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (folder / "redrive.toml").write_text(
        '[sources.support]\nprovider = "whatsapp"\nsecrets = ["app-secret"]\nverify_token = "${WHATSAPP_VERIFY_TOKEN}"\n'
    )
    given(monkeypatch, {"WHATSAPP_VERIFY_TOKEN": "verify-token"})
    assert set(load().sources) == {"support"}


def test_redrive_up_makes_the_halves_that_are_missing_in_development(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    given(monkeypatch, {"AIRCALL_WEBHOOK_TOKEN": "token-of-aircall", "WHATSAPP_VERIFY_TOKEN": "verify-token"})
    found = load(is_for_up=True).sources
    assert set(found) == set(PROVIDERS), "every provider has a secret"
    assert found["aircall"].secrets.values == ("token-of-aircall",)
    assert os.listdir(folder) == [], "it is written once the folder is locked"
    given(monkeypatch, {"APP_ENV": "production", "ADMIN_API_KEY": "sixteen letters!"})
    with pytest.raises(Misconfigured, match="TOKEN_DIGEST_KEY"):
        load(is_for_up=True)


@pytest.mark.parametrize("key", [None, "k", "fifteen letters", "k" + " " * 20])
def test_production_refuses_an_admin_key_that_can_be_guessed(
    folder: Path, monkeypatch: pytest.MonkeyPatch, key: str | None
) -> None:
    given(monkeypatch, GOOD | {"APP_ENV": "production"})
    load()
    if key is None:
        monkeypatch.delenv("ADMIN_API_KEY")
    else:
        monkeypatch.setenv("ADMIN_API_KEY", key)
    with pytest.raises(Misconfigured, match="ADMIN_API_KEY, of at least 16 characters"):
        load()


def test_what_was_signed_with_the_one_byte_of_v1_is_no_delivery(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (case,) = requests_of("08")
    given(monkeypatch, case["config"])
    with pytest.raises(Misconfigured, match="expected whsec_ and the base64 of 24 to 64 bytes"):
        load()
    # Whoever gets such a secret past the check, as `redrive verify` may with a file's own, still has no key.
    body = case["body"].encode()
    forged = base64.b64encode(hmac_sha256(b"\xbf", f"msg_forged.{NOW}.".encode(), body)).decode()
    headers = {"webhook-id": "msg_forged", "webhook-timestamp": str(NOW), "webhook-signature": f"v1,{forged}"}
    delivery = Delivery("standardwebhooks", "POST", "", case["path"], "", headers, body, "", NOW * 1000)
    secret = case["config"]["STANDARD_WEBHOOKS_SECRET"].split(",")[0]
    with pytest.raises(Misconfigured):
        verify(PROVIDERS["standardwebhooks"], delivery, Secrets((secret,)), NOW)


def test_a_key_of_small_order_would_take_anybodys_signature() -> None:
    """Why the points are refused, and not only counted: the neutral element verifies what nobody signed."""
    identity = (1).to_bytes(32, "little")
    with pytest.raises(Misconfigured):
        ed25519_public_key(b64(identity))
    signature = b64(identity + bytes(32))
    headers = {"telnyx-signature-ed25519": signature, "telnyx-timestamp": str(NOW)}
    delivery = Delivery("telnyx", "POST", "", "/webhooks/telnyx", "", headers, b"{}", "", NOW * 1000)
    with pytest.raises((Misconfigured, RejectedDelivery)):
        verify(PROVIDERS["telnyx"], delivery, Secrets((b64(identity),)), NOW)
