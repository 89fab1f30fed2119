"""Judges answers by the public OpenADR 3.1.0 OpenAPI document (tests/vectors/openadr, Apache-2.0, with its licence). Must not know: what is answered."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any, Final

import yaml
from openapi_schema_validator import OAS30Validator

FOLDER: Final = Path(__file__).parents[1] / "vectors" / "openadr"
DOCUMENT: Final[dict[str, Any]] = yaml.safe_load((FOLDER / "openadr3-3.1.0.yaml").read_text())
PREFIX: Final = "openadr3/3.1.0"
# The document contradicts itself: a ven's objectType must be VEN (objectMetadata) and BL_VEN_REQUEST (BlVenRequest) at once, a resource's likewise.
for _name, _also in (("BlVenRequest", "VEN"), ("BlResourceRequest", "RESOURCE")):
    DOCUMENT["components"]["schemas"][_name]["properties"]["objectType"]["enum"].append(_also)
# Its discriminator names values that are no schemas (EVENT_PAYLOAD_DESCRIPTOR); the alternatives tell themselves apart by their enumerations.
del DOCUMENT["components"]["schemas"]["programRequest"]["properties"]["payloadDescriptors"]["items"]["discriminator"]
#: What any server may answer, whatever the document lists.
ANYWHERE: Final = {401: "unauthorized", 403: "forbidden", 404: "notFound", 409: "conflict", 501: "notImplemented"}


def complaints(method: str, path: str, status: int, body: Any) -> list[str]:
    """What is wrong with an answer: its status is not in the document, or its body not as that says."""
    known = next((entry[method.lower()] for name, entry in DOCUMENT["paths"].items() if method.lower() in entry and re.fullmatch(re.sub(r"{\w+}", "[^/]+", name), path)), None)
    if known is None:
        return [f"the document has no {method} {path}"]
    answer = known["responses"].get(str(status))
    if answer is None and status in ANYWHERE:
        answer = {"$ref": f"#/components/responses/{ANYWHERE[status]}"}
    if answer is None:
        return [f"{method} {path}: {status} is not foreseen, {sorted(known['responses'])} are"]
    if "$ref" in answer:
        answer = DOCUMENT["components"]["responses"][answer["$ref"].rpartition("/")[2]]
    schema = {**answer["content"]["application/json"]["schema"], "components": DOCUMENT["components"]}
    return [f"{method} {path} {status} {'/'.join(map(str, e.absolute_path))}: {e.message[:300]}" for e in OAS30Validator(schema).iter_errors(body)]
