"""Draws a saga from its declarations, as a flowchart in Mermaid."""

from __future__ import annotations

from typing import Any

from mqkit.registration.body_fields import members
from mqkit.sagas.declaration import Declaration, SagaStep
from mqkit.sagas.declared import Kind


class _Drawing:
    """Collects lines, and gives each message a node of its own."""

    def __init__(self) -> None:
        self.lines = ["flowchart LR"]
        self._messages: dict[str, str] = {}

    def message(self, name: str) -> str:
        """Return the node of a message, which is drawn when it is first asked for."""
        if name not in self._messages:
            self._messages[name] = node = f"message{len(self._messages)}"
            self.lines.append(f'    {node}(["{_escaped(name)}"])')
        return self._messages[name]

    def add(self, line: str) -> None:
        """Add a line."""
        self.lines.append(f"    {line}")


def diagram(declaration: Declaration) -> str:
    """Return the diagram of a saga: messages that come, its methods, and messages that go out."""
    drawing = _Drawing()
    for number, step in enumerate(declaration.steps):
        method = f"method{number}"
        drawing.add(f'{method}["{_escaped(step.method)}"]')
        _draw_cause(drawing, step, method)
        for name in step.declared.publishes:
            drawing.add(f"{method} --> {drawing.message(name)}")
    _draw_end(drawing, declaration)
    return "\n".join(drawing.lines) + "\n"


def _draw_cause(drawing: _Drawing, step: SagaStep, method: str) -> None:
    name = _escaped(step.declared.name)
    if step.declared.kind is Kind.TIMEOUT:
        drawing.add(f'{method}_due{{{{"timeout {name}"}}}} -.-> {method}')
    elif step.declared.kind is Kind.COMPENSATES:
        drawing.add(f'{method}_undo{{{{"compensates {name}"}}}} -.-> {method}')
    else:
        arrow = "-- starts -->" if step.declared.kind is Kind.STARTS else "-->"
        for kind in members(step.body_type):
            drawing.add(f"{drawing.message(_name(kind))} {arrow} {method}")


def _draw_end(drawing: _Drawing, declaration: Declaration) -> None:
    """Draw what happens once everything is undone: where a step can be, or something is said."""
    publishes = declaration.options.publishes
    if not (publishes or declaration.compensations):
        return
    drawing.add('compensated["compensated"]')
    for number, step in enumerate(declaration.steps):
        if step.declared.kind is Kind.COMPENSATES:
            drawing.add(f"method{number} -.-> compensated")
    for name in publishes:
        drawing.add(f"compensated --> {drawing.message(name)}")


def _name(kind: Any) -> str:
    return kind.__name__ if isinstance(kind, type) else str(kind)


def _escaped(text: str) -> str:
    """Write what Mermaid would take for something of its own as it writes it."""
    return text.replace("#", "#35;").replace('"', "#quot;").replace("\n", " ")
