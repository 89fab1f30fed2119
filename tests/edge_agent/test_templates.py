"""Templates: what ships is right; what is wrong is named with line and field."""

from __future__ import annotations

import pytest

from edge_agent import templates, trial
from edge_agent.errors import TemplateError
from protos.points import Kind

GOOD = (templates.DEVICES / "electric_boiler_modbus.yaml").read_text(encoding="utf-8")


@pytest.mark.parametrize("name", templates.names())
def test_every_sample_of_a_shipped_template_decodes_to_its_value(name):
    rows = trial.samples(templates.builtin(name))
    assert rows
    assert [row for row in rows if not row["ok"]] == []


@pytest.mark.parametrize("name", templates.names())
def test_every_shipped_template_is_guarded_in_its_first_minute(name):
    template = templates.builtin(name)
    assert template.name == name
    assert template.alarms
    assert all(a.zh and a.en for a in template.alarms)
    if template.profile in {"electric_boiler", "heat_pump"}:
        assert {"leakage", "phase_loss", "freeze_risk", "overheat"} <= {a.id for a in template.alarms}
        assert template.interlocks
        assert template.frost is not None
    for spec in template.points.values():
        if spec.write is not None and spec.point.kind is Kind.COMMAND:
            assert spec.write.verify_point in template.points


@pytest.mark.parametrize("name", templates.names())
def test_every_writable_value_survives_the_wire(name):
    for spec in templates.builtin(name).points.values():
        if spec.write is not None:
            for value in (spec.write.low, spec.write.high):
                assert spec.canonical(round(spec.wire(value))) == pytest.approx(value, abs=spec.resolution)


@pytest.mark.parametrize(("old", "new", "field"), [
    ("protocol: modbus", "protocol: morse", "protocol"), ("poll_s: 5", "poll_s: often", "poll_s"), ("poll_s: 5", "", "poll_s"),
    ("{point: active_power, address", "{point: aktive_power, address", "points.0.point"), ("unit: kW,", "unit: degC,", "points.0.unit"),
    ("register: 0, type: u32", "register: 70000, type: u32", "points.0.address.register"), ("type: u32}", "type: u33}", "points.0.address.type"),
    ("table: holding, register: 0", "table: drawer, register: 0", "points.0.address.table"), ("deadband: 1,", "dedband: 1,", "points.0.dedband"),
    ("safe_state: {enable_command: 0}", "safe_state: {run_state: 0}", "safe_state.run_state"),
    ("when: {point: low_water_alarm, above: 0.5}", "when: {point: low_water_alarm}", "interlocks.0.when"),
    ("severity: critical, zh: 锅炉超温", "severity: dire, zh: 锅炉超温", "alarms.0.severity")])
def test_a_mistake_is_named_with_file_line_and_field(old, new, field):
    assert old in GOOD
    with pytest.raises(TemplateError) as caught:
        templates.parse(GOOD.replace(old, new, 1), file="mine.yaml")
    values = caught.value.values
    assert (values["file"], values["field"]) == ("mine.yaml", field)
    assert values["line"] == (GOOD[:GOOD.index(old)].count("\n") + 1 if new else 2)  # a missing field is missing in the whole
    assert "mine.yaml" in str(caught.value)


@pytest.mark.parametrize("text", ["", "[]", "points: {", "- 1", "template: 5", "\x00", "a: &a [*a]"])
def test_rubbish_is_a_template_error(text):
    with pytest.raises(TemplateError):
        templates.parse(text)


def test_an_unknown_template_names_the_known_ones():
    with pytest.raises(TemplateError) as caught:
        templates.builtin("../secrets")
    assert "electric_boiler_modbus" in str(caught.value)
