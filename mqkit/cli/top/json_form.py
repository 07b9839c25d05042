"""Writes an overview as one JSON object."""

from __future__ import annotations

import json
from dataclasses import asdict
from typing import Any

from pydantic_core import to_jsonable_python

from mqkit.overview.values import Overview


def as_json(overview: Overview) -> str:
    """Write it as an object for a program; the fields are those of `mqkit.overview`."""
    told: dict[str, Any] = asdict(overview)
    for service in told["services"]:
        if (store := service["store"]) is not None:
            store["sagas"] = [
                {"name": name, "status": status, "count": count}
                for (name, status), count in store["sagas"].items()
            ]
    # ASCII: what is not printable is written in JSON's own escapes.
    return json.dumps(to_jsonable_python(told), indent=2)
