from __future__ import annotations

import base64
import time
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st
from standardwebhooks.webhooks import Webhook, WebhookVerificationError

from services.webhooks.signing import (
    MAX_SIGNATURES,
    KeyFormatError,
    PrivateKey,
    PublicKey,
    Secret,
    Verification,
    parse_signing_key,
    parse_verifying_key,
    sign,
    verify,
)

NOW = 1_700_000_000
SECRET = Secret(b"s" * 32)
OTHER = Secret(b"o" * 32)
PRIVATE = PrivateKey(b"p" * 32)
BODY = b'{"type":"payments.payment.captured"}'

ids = st.text(st.characters(min_codepoint=0x21, max_codepoint=0x7E, exclude_characters="."), min_size=1, max_size=60)
timestamps = st.integers(0, 10**12 - 1)
secrets = st.binary(min_size=24, max_size=64).map(Secret)
private_keys = st.binary(min_size=32, max_size=32).map(PrivateKey)


def headers(**changes: str) -> dict[str, str]:
    return sign("msg_1", NOW, BODY, [SECRET]) | {name.replace("_", "-"): value for name, value in changes.items()}


def verdict(given: dict[str, str], *keys: Secret | PublicKey, now: float = NOW, body: bytes = BODY) -> Verification:
    return verify(given, body, keys or (SECRET,), now=now)


@given(ids, timestamps, st.binary(), secrets)
def test_what_was_signed_with_a_secret_is_verified(message: str, at: int, body: bytes, secret: Secret) -> None:
    assert verify(sign(message, at, body, [secret]), body, [secret], now=at)


@given(ids, timestamps, st.binary(), private_keys)
def test_what_was_signed_with_a_private_key_is_verified_with_its_public_key(
    message: str, at: int, body: bytes, key: PrivateKey
) -> None:
    assert verify(sign(message, at, body, [key]), body, [key.public()], now=at)


@given(st.binary(), st.binary(), secrets, private_keys)
def test_another_body_is_refused(body: bytes, other: bytes, secret: Secret, private: PrivateKey) -> None:
    signed = sign("msg_1", NOW, body, [secret, private])
    found = verify(signed, other, [secret, private.public()], now=NOW)
    assert bool(found) is (body == other)


@given(ids, st.text(st.characters(codec="utf-8", exclude_categories=["Cs"])), secrets)
def test_the_reference_library_accepts_our_signature(message: str, body: str, secret: Secret) -> None:
    signed = sign(message, int(time.time()), body.encode(), [secret])
    Webhook(secret.text()).verify(body.encode(), signed, json_parse=False)


@given(ids, st.text(st.characters(codec="utf-8", exclude_categories=["Cs"])), secrets)
def test_we_accept_the_signature_of_the_reference_library(message: str, body: str, secret: Secret) -> None:
    signature = Webhook(secret.text()).sign(message, datetime.fromtimestamp(NOW, UTC), body)
    given_headers = {"Webhook-Id": message, "Webhook-Timestamp": str(NOW), "Webhook-Signature": signature}
    assert verify(given_headers, body.encode(), [secret], now=NOW)


def test_the_reference_library_refuses_our_signature_of_another_body() -> None:
    signed = sign("msg_1", int(time.time()), b"{}", [SECRET])
    with pytest.raises(WebhookVerificationError):
        Webhook(SECRET.text()).verify(b"[]", signed)


def test_the_published_example_of_an_asymmetric_signature_comes_out_the_same() -> None:
    # Svix's own: server/svix-server/src/worker.rs, test_asymmetric_key_signing.
    key = parse_signing_key(
        "whsk_6Xb/dCcHpPea21PS1N9VY/NZW723CEc77N4rJCubMbfVKIDij2HKpMKkioLlX0dRqSKJp4AJ6p9lMicMFs6Kvg=="
    )
    signed = sign("msg_p5jXN8AQM9LWM0D4loKWxJek", 1614265330, b'{"test": 2432232314}', [key])
    assert signed["webhook-signature"] == (
        "v1a,hnO3f9T8Ytu9HwrXslvumlUpqtNVqkhqw/enGzPCXe5BdqzCInXqYXFymVJaA7AZdpXwVLPo3mNl8EM+m7TBAg=="
    )


def test_during_a_rotation_both_the_old_and_the_new_key_verify() -> None:
    signed = sign("msg_1", NOW, BODY, [SECRET, OTHER, PRIVATE])
    assert [part.split(",")[0] for part in signed["webhook-signature"].split(" ")] == ["v1", "v1", "v1a"]
    assert verdict(signed, SECRET)
    assert verdict(signed, OTHER)
    assert verdict(signed, PRIVATE.public())
    assert not verdict(signed, Secret(b"x" * 32))


def test_a_retry_has_a_fresh_timestamp_and_so_another_signature() -> None:
    first, second = sign("msg_1", NOW, BODY, [SECRET]), sign("msg_1", NOW + 5, BODY, [SECRET])
    assert first["webhook-id"] == second["webhook-id"]
    assert first["webhook-signature"] != second["webhook-signature"]
    assert second["webhook-timestamp"] == str(NOW + 5)


@pytest.mark.parametrize(
    ("moment", "expected"),
    [
        (NOW - 300, Verification.VERIFIED),
        (NOW + 300, Verification.VERIFIED),
        (NOW + 301, Verification.TOO_OLD),
        (NOW - 301, Verification.TOO_NEW),
    ],
)
def test_a_message_may_be_five_minutes_old_or_ahead(moment: float, expected: Verification) -> None:
    assert verdict(headers(), now=moment) is expected


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"webhook_id": ""}, Verification.MISSING_HEADER),
        ({"webhook_timestamp": ""}, Verification.MISSING_HEADER),
        ({"webhook_signature": ""}, Verification.MISSING_HEADER),
        ({"webhook_id": "msg.1"}, Verification.MALFORMED_ID),
        ({"webhook_id": "msg 1"}, Verification.MALFORMED_ID),
        ({"webhook_id": "m" * 256}, Verification.MALFORMED_ID),
        ({"webhook_id": "мсг"}, Verification.MALFORMED_ID),
        ({"webhook_id": "\ud800"}, Verification.MALFORMED_ID),
        ({"webhook_id": "msg_2"}, Verification.NO_MATCHING_SIGNATURE),
        ({"webhook_timestamp": f"{NOW}.0"}, Verification.MALFORMED_TIMESTAMP),
        ({"webhook_timestamp": f"-{NOW}"}, Verification.MALFORMED_TIMESTAMP),
        ({"webhook_timestamp": "nan"}, Verification.MALFORMED_TIMESTAMP),
        ({"webhook_timestamp": "9" * 5000}, Verification.MALFORMED_TIMESTAMP),
        ({"webhook_timestamp": "١٧٠٠٠٠٠٠٠٠"}, Verification.MALFORMED_TIMESTAMP),
        ({"webhook_timestamp": f"{NOW}\n"}, Verification.MALFORMED_TIMESTAMP),
        ({"webhook_timestamp": str(NOW + 1)}, Verification.NO_MATCHING_SIGNATURE),
        ({"webhook_signature": "v1"}, Verification.MALFORMED_SIGNATURE),
        ({"webhook_signature": "v1,"}, Verification.MALFORMED_SIGNATURE),
        ({"webhook_signature": "v1,not base64"}, Verification.MALFORMED_SIGNATURE),
        ({"webhook_signature": "v1,YWJj"}, Verification.MALFORMED_SIGNATURE),
        ({"webhook_signature": "v1,é"}, Verification.MALFORMED_SIGNATURE),
        ({"webhook_signature": "v2," + base64.b64encode(b"x" * 32).decode()}, Verification.MALFORMED_SIGNATURE),
        ({"webhook_signature": "v1," + base64.b64encode(b"x" * 32).decode()}, Verification.NO_MATCHING_SIGNATURE),
        ({"webhook_signature": "v1a," + base64.b64encode(b"x" * 64).decode()}, Verification.NO_MATCHING_SIGNATURE),
    ],
)
def test_a_header_that_is_wrong_is_refused_with_its_reason(changes: dict[str, str], expected: Verification) -> None:
    found = verdict(headers(**changes))
    assert found is expected
    assert not found


def test_headers_that_are_missing_are_refused() -> None:
    assert verdict({}) is Verification.MISSING_HEADER


def test_signatures_of_versions_that_we_do_not_know_are_passed_over() -> None:
    genuine = headers()["webhook-signature"]
    assert verdict(headers(webhook_signature=f"v9,whatever  v1 , {genuine} v2"))


def test_a_hostile_number_of_signatures_is_not_looked_at_to_the_end() -> None:
    wrong = "v1," + base64.b64encode(b"x" * 32).decode()
    genuine = headers()["webhook-signature"]
    within = " ".join([wrong] * (MAX_SIGNATURES - 1) + [genuine])
    beyond = " ".join([wrong] * MAX_SIGNATURES + [genuine])
    assert verdict(headers(webhook_signature=within))
    assert verdict(headers(webhook_signature=beyond)) is Verification.NO_MATCHING_SIGNATURE


def test_a_symmetric_signature_cannot_be_made_with_a_public_key() -> None:
    public = PRIVATE.public()
    forged = sign("msg_1", NOW, BODY, [Secret(public.key)])
    assert verdict(forged, public) is Verification.NO_MATCHING_SIGNATURE


anything = st.text() | st.binary().map(lambda raw: raw.decode("latin-1"))
nearly = st.sampled_from(
    ["v1", "v1a", ",", " ", "v1,", "=", str(NOW), "msg_1", ".", headers()["webhook-signature"], "\x00", "\ud800"]
)
pieces = st.lists(anything | nearly, max_size=8).map("".join)


@given(pieces, pieces, pieces, st.binary(), st.dictionaries(st.text(), st.text(), max_size=3))
def test_no_header_whatever_it_holds_makes_verify_raise(
    message: str, timestamp: str, signature: str, body: bytes, more: dict[str, str]
) -> None:
    given_headers = {"webhook-id": message, "webhook-timestamp": timestamp, "webhook-signature": signature, **more}
    assert isinstance(verify(given_headers, body, [SECRET, PRIVATE.public()], now=NOW), Verification)


@given(pieces, st.binary())
def test_no_signature_header_but_the_genuine_one_is_accepted(signature: str, body: bytes) -> None:
    genuine = sign("msg_1", NOW, body, [SECRET])["webhook-signature"]
    found = verify(headers(webhook_signature=signature), body, [SECRET], now=NOW)
    assert bool(found) is (genuine in signature.split(" "))


@given(pieces)
def test_garbage_for_a_key_is_one_kind_of_error_and_never_repeated(text: str) -> None:
    for parse in (parse_signing_key, parse_verifying_key):
        with pytest.raises(KeyFormatError) as caught:
            parse("whsec_" + text[:20])
        assert caught.value.args[0].startswith(("a key", "a secret"))


@pytest.mark.parametrize(
    "text",
    [
        "",
        "whsec_",
        "whsec_" + base64.b64encode(b"short").decode(),
        "whsec_" + base64.b64encode(b"x" * 65).decode(),
        "whsec_" + base64.urlsafe_b64encode(b"\xff" * 32).decode(),
        base64.b64encode(b"x" * 32).decode(),
        "whsk_" + base64.b64encode(b"x" * 33).decode(),
        "whsk_" + base64.b64encode(b"x" * 64).decode(),
        "whpk_" + base64.b64encode(b"x" * 32).decode(),
        "other_" + base64.b64encode(b"x" * 32).decode(),
    ],
)
def test_a_key_of_another_form_cannot_sign(text: str) -> None:
    with pytest.raises(KeyFormatError):
        parse_signing_key(text)


def test_a_private_key_cannot_verify_and_a_public_key_has_32_bytes() -> None:
    with pytest.raises(KeyFormatError):
        parse_verifying_key(PRIVATE.text())
    with pytest.raises(KeyFormatError):
        parse_verifying_key("whpk_" + base64.b64encode(b"x" * 31).decode())


@given(secrets, private_keys)
def test_keys_survive_being_written_and_read(secret: Secret, private: PrivateKey) -> None:
    assert parse_signing_key(secret.text()) == secret == parse_verifying_key(secret.text())
    assert parse_signing_key(private.text()) == private
    assert parse_signing_key("whsk_" + base64.b64encode(private.seed).decode()) == private
    assert parse_verifying_key(private.public().text()) == private.public()


def test_new_keys_differ_and_are_of_the_documented_form() -> None:
    assert Secret.generate() != Secret.generate()
    assert PrivateKey.generate() != PrivateKey.generate()
    assert parse_signing_key(Secret.generate().text())


@pytest.mark.parametrize("key", [SECRET, PRIVATE])
def test_a_key_does_not_show_itself_in_a_log(key: Secret | PrivateKey) -> None:
    assert "ssss" not in repr(key)
    assert "pppp" not in repr(key)


@pytest.mark.parametrize("message", ["", "msg.1", "msg 1", "é", "m" * 256, "msg\n1"])
def test_an_id_that_a_receiver_could_misread_is_not_signed(message: str) -> None:
    with pytest.raises(ValueError, match="id"):
        sign(message, NOW, BODY, [SECRET])


def test_nothing_is_signed_without_a_key_or_before_1970() -> None:
    with pytest.raises(ValueError, match="key"):
        sign("msg_1", NOW, BODY, [])
    with pytest.raises(ValueError, match="timestamp"):
        sign("msg_1", -1, BODY, [SECRET])
