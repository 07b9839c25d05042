"""Reads the pages of a service, as Prometheus and a probe do."""

from __future__ import annotations

import asyncio
import re
import urllib.error
import urllib.request

from prometheus_client.parser import text_string_to_metric_families

from tests.support import ServiceProcess

Samples = dict[tuple[str, frozenset[tuple[str, str]]], float]
"""Values by the sample's name and its labels."""


async def port_of(process: ServiceProcess) -> int:
    """Return the port that `--http 0` took, once the log has it."""
    await process.says("metrics and health: http://127.0.0.1:")
    found = re.search(r"metrics and health: http://127\.0\.0\.1:(\d+)/", process.text())
    assert found
    return int(found[1])


async def page(port: int, path: str) -> tuple[int, str]:
    """Return the status and the text of a page."""

    def read() -> tuple[int, str]:
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{port}{path}", timeout=20) as answer:
                return answer.status, answer.read().decode()
        except urllib.error.HTTPError as error:
            return error.code, error.read().decode()

    return await asyncio.to_thread(read)


def samples(text: str) -> Samples:
    """Return all that a scrape tells."""
    return {
        (sample.name, frozenset(sample.labels.items())): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


def total(found: Samples, name: str, **labels: str) -> float:
    """Sum up the samples of a name that have these labels."""
    wanted = frozenset(labels.items())
    return sum(value for (each, has), value in found.items() if each == name and wanted <= has)


async def scraped(port: int) -> Samples:
    """Return what a scrape tells now."""
    status, text = await page(port, "/metrics")
    assert status == 200, text
    return samples(text)
