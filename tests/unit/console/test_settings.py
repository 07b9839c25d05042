"""What a console is started with."""

from __future__ import annotations

import re

import pytest
from pydantic import SecretStr

from mqkit import Service
from mqkit.errors import OptionError
from tests.unit.console.samples import TOKEN, settings


@pytest.mark.parametrize("token", ["", "too short", "x" * 1_001, "with a line's end\n"])
def test_a_token_that_could_be_guessed_is_refused(token: str) -> None:
    """And the error does not quote it."""
    with pytest.raises(OptionError) as caught:
        settings(token=SecretStr(token))
    assert not token or token not in str(caught.value)


def test_nobody_does_nothing() -> None:
    """The audit needs a name."""
    with pytest.raises(OptionError, match="--who"):
        settings(who=" ")


def test_the_token_is_in_no_repr() -> None:
    """Nor are the passwords of stores and of the management API."""
    told = repr(settings(stores=(SecretStr("postgresql://a:planted@b/c"),)))
    assert TOKEN not in told
    assert "planted" not in told


def test_consoles_on_one_host_have_cookies_of_their_own() -> None:
    """Cookies are shared by the ports of a host, so that the port is in the name."""
    assert settings(port=1).cookie != settings(port=2).cookie


def test_what_services_mask_is_masked_here() -> None:
    """All of their fields and patterns together."""
    services = (Service("a", masks=["iban"]), Service("b", masks=[re.compile("K-[0-9]+")]))
    masker = settings(services=services).masker()
    assert masker.mask("iban=DE12 and K-77, password=x1") == "iban=*** and ***, password=***"
