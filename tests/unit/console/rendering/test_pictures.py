"""Pictures that stand in pages."""

from __future__ import annotations

from mqkit.console.rendering.pictures import masked
from mqkit.logging.masking import DEFAULT, Masker
from mqkit.pictures.graph import graph_svg
from mqkit.pictures.values import Edge, Node


def test_secrets_are_masked_in_all_texts_of_a_picture() -> None:
    """In labels, notes, at arrows, in titles and descriptions; and nothing else is changed"""
    secret = "hunter2"
    picture = graph_svg(
        [
            Node("a", f"password={secret}", "queue", f"token={secret}"),
            Node("b", "amqp://ann:hunter2@host/", "handler"),
        ],
        [Edge("a", "b", f"api_key={secret}")],
        title=f"password={secret}",
        description=f"password={secret}",
    )
    assert picture.count(secret) > 6
    assert secret not in masked(picture, DEFAULT)
    plain = graph_svg([Node("a", "a & <b>", "queue")], [], title="One")
    assert masked(plain, DEFAULT) == plain


def test_what_the_service_masks_is_markup_no_more_than_before() -> None:
    """A mask of the application's own may match what was escaped"""
    picture = graph_svg([Node("a", "iban=CZ65<b>", "queue")], [], title="One")
    found = masked(picture, Masker(["iban"]))
    assert "CZ65" not in found
    assert "<b>" not in found
    assert found.count("<text") == picture.count("<text")
