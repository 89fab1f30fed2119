"""Every code an agent or the command service can end a command with has a sentence in both languages."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest
import yaml

from cloud.functions.devices.state import rule_words, why
from cloud.functions.remote_control.endings import AUTHORITIES, ENDINGS, ending, told
from protos.arbitration import Authority
from protos.points import BY_KEY

ROOT = Path(__file__).parents[3]
BOILER = yaml.safe_load((ROOT / "edge_agent/devices/electric_boiler_modbus.yaml").read_text(encoding="utf-8"))


def reported() -> set[str]:
    """Codes that stand as literals where commands are refused or closed: read from the source, so that a new one is missed by nobody."""
    found: set[str] = set()
    for path in [*(ROOT / "edge_agent/commands").glob("*.py"), ROOT / "cloud/control/desk.py"]:
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Call):
                named = [k.value for k in node.keywords if k.arg == "code"]
                first = node.args[:1] if isinstance(node.func, ast.Name) and node.func.id == "CommandError" else []
                found |= {n.value for value in [*named, *first] for n in ast.walk(value) if isinstance(n, ast.Constant) and isinstance(n.value, str)}
            elif isinstance(node, ast.Assign) and isinstance(node.value, ast.IfExp | ast.Tuple) and any("code" in ast.unparse(t) for t in node.targets):
                found |= {n.value for n in ast.walk(node.value) if isinstance(n, ast.Constant) and isinstance(n.value, str)}
    return found - {"", "interlock.", "maybe_delivered"}


def test_every_code_that_can_be_reported_has_words():
    codes = reported()
    assert {"lockout", "held", "no_readback", "E-CMD-DEADLINE", "wait_timeout"} <= codes
    assert codes <= ENDINGS.keys() | {"limited"}


@pytest.mark.parametrize("code", sorted(ENDINGS))
def test_words_differ_by_language_and_leave_no_empty_brackets(code):
    for fact in ("", "Wang: pump"):
        words = ending(code, fact, None)
        assert words["zh"] != words["en"]
        assert "{" not in words["zh"] + words["en"]
        assert "（）" not in words["zh"]
        assert "()" not in words["en"]


def test_facts_are_named_in_the_readers_language():
    assert ending("held", "operator Li: washing", None) == {"zh": "由更高权限占用（值班员 Li: washing）；待其到期或解除后再试",
                                                            "en": "Held by a stronger authority (operator Li: washing); try again when it ends or is released"}
    assert BY_KEY["leaving_temp_setpoint"].zh in ending("range", "leaving_temp_setpoint 20–85", None)["zh"]
    assert AUTHORITIES.keys() == set(Authority)


def test_an_interlock_speaks_the_templates_words():
    assert ending("interlock.low_water", "", BOILER) == {"zh": "联锁保护：缺水，禁止启动", "en": "Interlock: Low water; starting is forbidden"}
    assert ending("interlock.low_water", "unreadable", BOILER)["zh"].endswith("（其输入测点读不到）")
    assert ending("interlock.gone", "", BOILER)["en"] == "Interlock: gone"
    held = {"agent_online": True, "online": True, "holders": [{"point_id": 1, "authority": 0, "value": 0.0, "until_ms": None, "holder": "interlock", "reason": "low_water"}]}
    assert why(held, document=BOILER)["words"]["zh"] == "缺水，禁止启动"


@pytest.mark.parametrize("reason", ["grid cap 263 kW", "grid cap 263 kW, meter silent", "grid cap is over", "outdoor -7.5 degC", "outdoor unknown", "valley", "not valley", "full", "nearly empty", "+1.5 K to go", "fault"])
def test_what_a_rule_of_the_box_gives_as_reason_is_said_in_both_languages(reason):
    words = rule_words(reason)
    assert words["zh"] != words["en"]
    assert all(figure in words["zh"] for figure in re.findall(r"[\d.]+", reason))
    assert rule_words("washing the loop") is None


def test_a_command_is_told_with_its_steps():
    view = told({"code": "lockout", "detail": "Wang: repair", "steps": [{"code": "", "detail": ""}, {"code": "lockout", "detail": "Wang: repair"}]}, None)
    assert view["steps"][0]["why"] is None
    assert view["why"] == view["steps"][1]["why"]
    assert "Wang" in view["why"]["zh"]
