"""The JSON schema of tariff documents (`tariff.schema.json`, draft 2020-12) and the small part of JSON Schema it is written in.

One text says what a document may look like: editors and other programs read it, `model.parse` is held to it. Must not know: tariffs, money.
"""

from __future__ import annotations

import datetime as dt
import functools
import json
import re
from collections.abc import Iterator, Mapping
from decimal import Decimal
from importlib import resources
from typing import Any

_TYPES: dict[str, type | tuple[type, ...]] = {"object": dict, "array": list, "string": str, "number": (int, float), "integer": int, "boolean": bool, "null": type(None)}


@functools.cache
def schema() -> dict[str, Any]:
    """The schema as it is shipped."""
    found: dict[str, Any] = json.loads(resources.files("optimizers.tariff").joinpath("tariff.schema.json").read_text("utf-8"))
    return found


def plain(value: Any) -> Any:
    """A document as JSON has it: dates as text (YAML reads them as dates), decimals as text, tuples as lists."""
    if isinstance(value, Mapping):
        return {str(k): plain(v) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [plain(v) for v in value]
    return str(value) if isinstance(value, dt.date | Decimal) else value


def problems(value: Any, rule: Mapping[str, Any] | None = None, where: str = "") -> Iterator[tuple[str, str]]:
    """(place, what is wrong there) for everything a plain document breaks of the schema.

    Understood: type, enum, pattern, minLength, minimum, maximum, minItems, maxItems, items, prefixItems, properties, required, additionalProperties, $ref into $defs.
    """
    rule = schema() if rule is None else rule
    if "$ref" in rule:
        yield from problems(value, schema()["$defs"][rule["$ref"].rpartition("/")[2]], where)
        return
    said = rule.get("description", "")
    if "enum" in rule:
        if not any(type(value) is type(v) and value == v for v in rule["enum"]):
            yield where, f"'{value}' is none of {', '.join(str(v) for v in rule['enum'])}"
        return
    kinds = rule.get("type", [])
    kinds = [kinds] if isinstance(kinds, str) else kinds
    if kinds and not any(_is(value, kind) for kind in kinds):
        yield where, f"'{value}' is not {said}" if said and not isinstance(value, dict | list) else f"not {said or ' or '.join(kinds)}"
        return
    if isinstance(value, str) and ((("pattern" in rule) and not re.search(rule["pattern"], value)) or len(value) < rule.get("minLength", 0)):
        yield where, f"'{value}' is not {said or 'in the form asked'}"
    if isinstance(value, int | float) and not isinstance(value, bool) and not rule.get("minimum", value) <= value <= rule.get("maximum", value):
        yield where, f"{value} is outside {rule.get('minimum', '')}..{rule.get('maximum', '')}"
    if isinstance(value, list):
        yield from _list(value, rule, where, said)
    if isinstance(value, dict):
        yield from _object(value, rule, where)


def _is(value: Any, kind: str) -> bool:
    if isinstance(value, bool):
        return kind == "boolean"
    return isinstance(value, _TYPES[kind])


def _list(value: list[Any], rule: Mapping[str, Any], where: str, said: str) -> Iterator[tuple[str, str]]:
    if not rule.get("minItems", 0) <= len(value) <= rule.get("maxItems", len(value)):
        yield where, f"not {said}" if said else "not a list with entries"
        return
    first = rule.get("prefixItems", [])
    for k, entry in enumerate(value):
        of = first[k] if k < len(first) else rule.get("items")
        if of is not None:
            yield from problems(entry, of, f"{where}[{k}]")


def _object(value: dict[str, Any], rule: Mapping[str, Any], where: str) -> Iterator[tuple[str, str]]:
    known, more = rule.get("properties", {}), rule.get("additionalProperties", True)
    for name in rule.get("required", ()):
        if name not in value:
            yield f"{where}.{name}".strip("."), "missing"
    for name, entry in value.items():
        place = f"{where}.{name}".strip(".")
        if name in known:
            yield from problems(entry, known[name], place)
        elif more is False:
            yield place, f"unknown; there are {', '.join(k for k in known if not k.startswith('$'))}"
        elif isinstance(more, dict):
            yield from problems(entry, more, place)
