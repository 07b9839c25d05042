"""A saga's diagram is drawn from its declarations."""

from __future__ import annotations

from mqkit import Queue
from mqkit.sagas import Saga, starts
from tests.unit.sagas.support import Payment, PaymentState, PlaceOrder, RiskAnswered


def test_a_diagram_has_messages_methods_timeouts_and_compensations() -> None:
    """Each message once, with arrows from and to the methods; what is declared, and no more."""
    lines = [line.strip() for line in Payment.diagram().splitlines()]
    assert lines[:6] == [
        "flowchart LR",
        'method0["placed"]',
        'message0(["PlaceOrder"])',
        "message0 -- starts --> method0",
        'message1(["CheckRisk"])',
        "method0 --> message1",
    ]
    assert 'method3_due{{"timeout risk"}} -.-> method3' in lines
    assert 'method5_undo{{"compensates hold"}} -.-> method5' in lines
    assert "method5 -.-> compensated" in lines
    assert lines[-1] == "compensated --> message7"
    assert len(lines) == len(set(lines))


def test_a_message_of_several_types_is_drawn_as_each() -> None:
    """And what Mermaid would take for its own is escaped."""

    class Wide(Saga[PaymentState], name="wide"):
        @starts(Queue("q"), by="order_id", publishes=['a "quoted" #name'])
        async def start(self, order: PlaceOrder | RiskAnswered) -> None: ...

    assert Wide.diagram() == (
        "flowchart LR\n"
        '    method0["start"]\n'
        '    message0(["PlaceOrder"])\n'
        "    message0 -- starts --> method0\n"
        '    message1(["RiskAnswered"])\n'
        "    message1 -- starts --> method0\n"
        '    message2(["a #quot;quoted#quot; #35;name"])\n'
        "    method0 --> message2\n"
    )
