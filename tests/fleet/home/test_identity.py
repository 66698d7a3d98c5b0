# SPDX-License-Identifier: Apache-2.0
"""TLS identities: leaves cannot issue certificates, and their dates do not lock people out."""

from datetime import UTC, datetime

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec

from breakglass.errors import ConfigInvalid
from breakglass.fleet.home.identity import (
    make_ca,
    make_courier,
    make_node,
    server_name,
    spki_sha256,
)

NOW = datetime(2026, 11, 21, tzinfo=UTC)
CA = make_ca("example", now=NOW)
NODE = make_node(CA, node="n1", cluster="prod-a", ip="192.0.2.1", now=NOW)
COURIER = make_courier(CA, "bastion", now=NOW)


def certificate(pem: bytes) -> x509.Certificate:
    """Read a certificate."""
    return x509.load_pem_x509_certificate(pem)


@pytest.mark.parametrize("leaf", [NODE, COURIER], ids=["node", "courier"])
def test_a_leaf_cannot_issue_certificates(leaf: object) -> None:
    """Both the constraint and the key usage say so, and both are critical."""
    found = certificate(leaf.certificate)  # type: ignore[attr-defined]
    constraints = found.extensions.get_extension_for_class(x509.BasicConstraints)
    usage = found.extensions.get_extension_for_class(x509.KeyUsage)
    assert constraints.critical
    assert not constraints.value.ca
    assert usage.critical
    assert usage.value.digital_signature
    assert not usage.value.key_cert_sign


@pytest.mark.parametrize("one", [CA, NODE, COURIER], ids=["ca", "node", "courier"])
def test_certificates_outlive_neglect_and_lost_clocks(one: object) -> None:
    """They are valid from 1970, where a lost clock starts, until ten years from now."""
    found = certificate(one.certificate)  # type: ignore[attr-defined]
    assert found.not_valid_before_utc.year == 1970
    assert (found.not_valid_after_utc - NOW).days >= 3652
    key = found.public_key()
    assert isinstance(key, ec.EllipticCurvePublicKey)
    assert key.curve.name == "secp256r1"


def test_a_node_is_named_by_us_and_by_its_address() -> None:
    """The name is under .invalid, so no resolver will ever answer it."""
    found = certificate(NODE.certificate)
    names = found.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert names.get_values_for_type(x509.DNSName) == ["n1.prod-a.breakglass.invalid"]
    assert server_name(node="n1", cluster="prod-a") == "n1.prod-a.breakglass.invalid"
    assert [str(ip) for ip in names.get_values_for_type(x509.IPAddress)] == ["192.0.2.1"]


def test_a_long_name_still_makes_a_certificate() -> None:
    """The longest name of a node fits, though a common name may only have 64 characters."""
    made = make_node(CA, node="n" * 63, cluster="c" * 63, ip="2001:db8::1", now=NOW)
    assert certificate(made.certificate).subject.rfc4514_string().startswith("CN=node nnn")


def test_a_pin_is_of_the_key_and_not_of_the_certificate() -> None:
    """A second certificate of the same CA has another key and another pin."""
    again = make_courier(CA, "bastion", now=NOW)
    assert spki_sha256(COURIER.certificate) == spki_sha256(COURIER.certificate)
    assert spki_sha256(COURIER.certificate) != spki_sha256(again.certificate)
    with pytest.raises(ConfigInvalid, match="PEM"):
        spki_sha256(b"no certificate")


def test_a_private_key_is_not_shown() -> None:
    """The `repr` of an identity, as in an error message, does not show its key."""
    assert "PRIVATE KEY" not in repr(NODE)
