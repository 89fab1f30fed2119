"""A real FMU, built here from C, is driven as the standard says and as its physics demands; ours holds its floor and costs less than any thermostat."""

from __future__ import annotations

import dataclasses
import zipfile
from pathlib import Path

import numpy as np
import pytest
from scipy.linalg import expm

from benchmarks.optimizers.closed_loop import PLANT, Plant, compare, compiled, drive, read, thermostat
from benchmarks.optimizers.fmi import Fmu, FmuError, describe
from benchmarks.report import Report

pytestmark = pytest.mark.needs("cc")


@pytest.fixture(scope="module")
def plant(tmp_path_factory: pytest.TempPathFactory) -> Plant:
    return dataclasses.replace(read(PLANT / "room.json"), fmu=compiled(tmp_path_factory.mktemp("plant")))


def test_a_day_of_steps_is_what_the_physics_gives(plant: Plant) -> None:
    rates = np.array([[-(40e3 + 6e3) / 1.2e9, 40e3 / 1.2e9], [40e3 / 6e9, -44e3 / 6e9]])
    state, heat, outside = np.array([293.15, 293.15]), 250e3, 263.15
    push = np.array([(heat + 6e3 * outside) / 1.2e9, 4e3 * outside / 6e9])
    with Fmu(plant.fmu) as fmu:
        fmu.set({"QHeat": heat, "TOut": outside})
        for _ in range(96):
            fmu.step(900)
            exact = expm(rates * 900)
            state = exact @ state + np.linalg.solve(rates, (exact - np.eye(2)) @ push)
        found = fmu.get(["TRoom", "TWall", "EHeat"])
        assert fmu.time_s == 86_400
    assert found["TRoom"] == pytest.approx(state[0], abs=1e-4)
    assert found["TWall"] == pytest.approx(state[1], abs=1e-4)
    assert found["EHeat"] == pytest.approx(heat * 86_400)


def test_two_instances_do_not_know_of_each_other(plant: Plant) -> None:
    with Fmu(plant.fmu, {"TRoom": 280.0}) as cold, Fmu(plant.fmu) as warm:
        cold.step(900)
        assert warm.get(["TRoom"])["TRoom"] == 293.15
        assert cold.get(["TRoom"])["TRoom"] != 280.0


def test_what_an_fmu_refuses_is_said_with_its_place(plant: Plant, tmp_path: Path) -> None:
    with Fmu(plant.fmu) as fmu:
        with pytest.raises(FmuError, match="no real variable TCellar; there are EHeat"):
            fmu.get(["TCellar"])
        with pytest.raises(FmuError, match="fmi2DoStep at 0 s: error"):
            fmu.step(-1)
        with pytest.raises(FmuError, match="fmi2SetReal"):
            fmu.set({"EHeat": 1.0})
    (tmp_path / "text.fmu").write_text("no zip")
    with pytest.raises(FmuError, match=r"text\.fmu"):
        Fmu(tmp_path / "text.fmu")
    with zipfile.ZipFile(plant.fmu) as archive:
        xml, library = archive.read("modelDescription.xml"), archive.read("binaries/linux64/room.so")
    with zipfile.ZipFile(tmp_path / "other.fmu", "w") as archive:
        archive.writestr("modelDescription.xml", xml.replace(b"{kang-room-1}", b"{another}"))
        archive.writestr("binaries/linux64/room.so", library)
    with pytest.raises(FmuError, match="does not start"):
        Fmu(tmp_path / "other.fmu")
    with zipfile.ZipFile(tmp_path / "foreign.fmu", "w") as archive:
        archive.writestr("modelDescription.xml", xml)
        archive.writestr("binaries/win64/room.dll", b"")
    with pytest.raises(FmuError, match="it has win64"):
        Fmu(tmp_path / "foreign.fmu")
    with pytest.raises(FmuError, match=r"FMI 3\.0"):
        describe(b'<fmiModelDescription fmiVersion="3.0"/>')


def test_wires_turn_units_both_ways(plant: Plant) -> None:
    run = drive(plant, np.full(4, -5.0), thermostat(plant, lambda _: 25.0))
    assert (run.heat_kw == plant.rated_kw).all()
    assert 20.0 < run.room_c[0] < run.room_c[-1] < 25.0


def test_ours_holds_the_floor_and_costs_less_than_the_best_thermostat(plant: Plant) -> None:
    report = Report("test")
    compare(plant, 1, report)
    rows = {r["id"]: r for r in report.rows}
    assert rows["FMI.ours.below"]["value"] <= 0.1
    assert rows["FMI.thermostat.ratio"]["value"] > 1.08
