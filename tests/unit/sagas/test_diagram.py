"""A saga's diagram is drawn from its declarations."""

from __future__ import annotations

from mqkit import Queue
from mqkit.sagas import Saga, starts
from tests.unit.sagas.support import Payment, PaymentState, PlaceOrder, RiskAnswered


def test_a_diagram_has_messages_methods_timeouts_and_compensations() -> None:
    """Each message once, with arrows from and to the methods; what is declared, and no more."""
    lines = [line.strip() for line in Payment.diagram().splitlines()]
    labels = {
        line.split('"')[1]: line.split('"')[0].rstrip("([/")
        for line in lines
        if line[0] == "n" and '"' in line and "-" not in line.split('"')[0]
    }
    arrow = "{} --> {}".format
    assert f'{labels["PlaceOrder"]} -->|"starts"| {labels["placed"]}' in lines
    assert arrow(labels["placed"], labels["CheckRisk"]) in lines
    assert f"{labels['timeout risk']} -.-> {labels['risk_silent']}" in lines
    assert f"{labels['compensates hold']} -.-> {labels['release_hold']}" in lines
    assert f"{labels['release_hold']} -.-> {labels['compensated']}" in lines
    assert arrow(labels["compensated"], labels["order.refused"]) in lines
    assert len(lines) == len(set(lines))


def test_a_message_of_several_types_is_drawn_as_each() -> None:
    """And what Mermaid would take for its own is escaped."""

    class Wide(Saga[PaymentState], name="wide"):
        @starts(Queue("q"), by="order_id", publishes=['a "quoted" #name'])
        async def start(self, order: PlaceOrder | RiskAnswered) -> None: ...

    assert Wide.diagram() == (
        "flowchart LR\n"
        '    n0("start"):::kind-handler\n'
        '    n1(["PlaceOrder"]):::kind-message\n'
        '    n2(["RiskAnswered"]):::kind-message\n'
        '    n3(["a #34;quoted#34; #35;name"]):::kind-message\n'
        '    n1 -->|"starts"| n0\n'
        '    n2 -->|"starts"| n0\n'
        "    n0 --> n3\n"
        "    classDef kind-handler stroke:#1f7a43,stroke-width:2px\n"
        "    classDef kind-message stroke:#0f7480,stroke-width:2px\n"
    )
    assert ">a &quot;quoted&quot; #name<" in Wide.diagram_svg()
