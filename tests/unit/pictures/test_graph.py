from __future__ import annotations

import re
from xml.etree import ElementTree as ET

import pytest

from mqkit.pictures.graph import Edge, Node, graph_mermaid, graph_svg
from mqkit.pictures.lettering import clean, shortened, width
from mqkit.pictures.shapes import EDGES, LOOKS
from mqkit.pictures.style import INK

SVG = "{http://www.w3.org/2000/svg}"

ODD = [
    '<script>alert("x")</script> & co',
    "שלום עולם",
    "\N{FAMILY} \N{WOMAN}\u200d\N{PERSONAL COMPUTER} e\u0301",
    "line\nbreak\x00\x1b[31m\u202eevil\ud800\ufffe",
    "",
    "#quot; ]]> --> <!-- end style",
    "x" * 5000,
]


def read(svg: str) -> ET.Element:
    assert svg.encode(), "it can be written to a file"
    return ET.fromstring(svg)  # noqa: S314 - it is our own


def texts(svg: str) -> list[str]:
    return [element.text or "" for element in read(svg).iter(f"{SVG}text")]


def test_it_has_a_name_for_who_cannot_see_it() -> None:
    """The picture is an image that is named by its title and its description."""
    root = read(graph_svg([Node("a", "a")], [], title="Orders", description="All queues."))
    title, told = root.find(f"{SVG}title"), root.find(f"{SVG}desc")
    assert title is not None
    assert told is not None
    assert (title.text, told.text, root.get("role")) == ("Orders", "All queues.", "img")
    assert root.get("aria-labelledby") == f"{title.get('id')} {told.get('id')}"


@pytest.mark.parametrize("odd", ODD)
def test_whatever_is_in_a_text_is_text(odd: str) -> None:
    """No label, note, title or kind makes markup, or a picture that is no XML."""
    nodes = [Node(odd or "a", odd, odd, odd), Node("b", odd, "queue", odd)]
    edges = [Edge(odd or "a", "b", odd, odd), Edge("b", "b", odd)]
    svg = graph_svg(nodes, edges, title=odd or "t", description=odd)
    assert {element.tag.removeprefix(SVG) for element in read(svg).iter()} <= {
        *("svg", "title", "desc", "style", "rect", "g", "path", "text")
    }
    graph_mermaid(nodes, edges, title=odd).encode()


def test_a_long_name_is_shortened_and_whole_in_its_title() -> None:
    """Both ends of a long name are seen, and all of it is in the title of its box."""
    name = "payments." + "very." * 40 + "long.dead"
    svg = graph_svg([Node("q", name, "queue", "12 messages")], [], title="t")
    (label,) = [text for text in texts(svg) if "…" in text]
    assert label.startswith("payments.")
    assert label.endswith("long.dead")
    assert f"<title>queue {name}, 12 messages</title>" in svg


def test_a_character_is_not_cut_in_two() -> None:
    """An emoji of several, and a letter with its accent, are kept or left out whole."""
    family = "\N{WOMAN}\u200d\N{WOMAN}\u200d\N{BOY}"
    for most in range(20, 200, 3):
        cut = shortened(family * 9 + "e\u0301" * 9, 12, most)
        assert re.fullmatch(f"(?:{family})*…(?:{family})*(?:e\u0301)*", cut), most
        assert width(cut, 12) <= max(most, width("…", 12))


def test_what_cannot_be_seen_is_written_out() -> None:
    """Control characters, what turns writing round, and lone surrogates are seen as escapes."""
    assert clean("a\nb\x00\u202e\ud800") == r"a b\x00\u202e\ud800"


def test_an_edge_to_nothing_known_is_drawn() -> None:
    """An end that is no node is an external node with its name, in both forms."""
    edges = [Edge("a", "elsewhere", "key")]
    svg = graph_svg([Node("a", "a")], edges, title="t")
    assert "<title>external elsewhere</title>" in svg
    assert 'n1["elsewhere"]:::kind-external' in graph_mermaid([Node("a", "a")], edges)


def test_nothing_says_so() -> None:
    """A picture of nothing says that there is nothing."""
    assert texts(graph_svg([], [], title="t")) == ["t", "Nothing to show."]


def test_edges_of_the_same_ends_are_one_arrow() -> None:
    """Their labels stand below each other, and the number of those that are too many."""
    nodes = [Node("a", "a"), Node("b", "b")]
    edges = [Edge("a", "b", f"key.{number}") for number in range(9)]
    svg = graph_svg(nodes, edges, title="t")
    assert svg.count('class="mq-line"') == 1
    assert [text for text in texts(svg) if "key" in text] == [f"key.{n}" for n in range(5)]
    assert "and 4 more" in texts(svg)
    assert "key.8</title>" in svg


def test_two_pictures_in_a_page_have_names_of_their_own() -> None:
    """The ids of pictures of different content differ, and those of the same do not."""
    first, again, second = (
        re.findall(r'id="(.*?)"', graph_svg([Node("a", label)], [], title="t")) for label in "aab"
    )
    assert first == again
    assert not set(first) & set(second)


def test_an_arrow_points_at_what_it_leads_to() -> None:
    """Its head stands before its target, on the left or, of one that goes back, on the right."""
    nodes = [Node("a", "a"), Node("b", "a name that is the widest of its column"), Node("c", "c")]
    edges = [Edge("a", "b"), Edge("b", "c"), Edge("c", "b"), Edge("a", "c")]
    heads = re.findall(
        r'class="mq-head" d="M([\d.]+) [\d.]+L([\d.]+)', graph_svg(nodes, edges, title="t")
    )
    assert [float(tip) > float(back) for tip, back in heads] == [True, True, False, True]


def luminance(colour: str) -> float:
    """As https://www.w3.org/TR/WCAG21/#dfn-relative-luminance has it."""
    parts = [int(colour[at : at + 2], 16) / 255 for at in (1, 3, 5)]
    linear = [
        part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts
    ]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def contrast(first: str, second: str) -> float:
    light, dark = sorted((luminance(first), luminance(second)), reverse=True)
    return (light + 0.05) / (dark + 0.05)


@pytest.mark.parametrize("mode", [0, 1])
def test_everything_can_be_read_on_light_and_dark(mode: int) -> None:
    """Text has a contrast of 4.5 to what is behind it, and lines one of 3 (WCAG 2.1, AA)."""
    ink, dim, paper = (INK[name][mode] for name in ("ink", "dim", "paper"))
    assert contrast(ink, paper) >= 4.5
    assert contrast(dim, paper) >= 4.5
    for kind, look in LOOKS.items():
        fill, stroke = look.paint.fill[mode], look.paint.stroke[mode]
        assert contrast(ink, fill) >= 4.5, kind
        assert contrast(dim, fill) >= 4.5, kind
        assert contrast(stroke, paper) >= 3, kind
    for kind, (colours, _) in EDGES.items():
        assert contrast(colours[mode], paper) >= 3, kind


def test_mermaid_is_what_it_should_be() -> None:
    """Each kind has brackets and a class, and dead letters a dashed arrow."""
    chart = graph_mermaid(
        [
            Node("x", "ev#1", "exchange", "topic"),
            Node("q", 'a "q"', "queue"),
            Node("d", "d", "dead letter"),
        ],
        [Edge("x", "q", "a.#"), Edge("x", "q", "<b>"), Edge("q", "d", kind="dead letter")],
        title='Orders: "all"',
    )
    assert chart == (
        '---\ntitle: "Orders: \\"all\\""\n---\nflowchart LR\n'
        '    n0{{"ev#35;1<br>topic"}}:::kind-exchange\n'
        '    n1[("a #34;q#34;")]:::kind-queue\n'
        '    n2[/"d"/]:::kind-dead-letter\n'
        '    n0 -->|"a.#35;<br>#60;b#62;"| n1\n'
        "    n1 -.-> n2\n"
        "    classDef kind-exchange stroke:#7440d0,stroke-width:2px\n"
        "    classDef kind-queue stroke:#1d6fb8,stroke-width:2px\n"
        "    classDef kind-dead-letter stroke:#b42318,stroke-width:2px\n"
    )
