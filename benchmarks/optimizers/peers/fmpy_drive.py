"""FMPy: the same FMU, the same inputs, what it reads after every step. Must not know: our drive."""
# mypy: ignore-errors

from __future__ import annotations

import json
import sys
from typing import Any

import fmpy
from fmpy.fmi2 import FMU2Slave


def main() -> None:
    """One request from stdin, one answer to stdout."""
    request: dict[str, Any] = json.load(sys.stdin)
    described = fmpy.read_model_description(request["fmu"])
    reference = {v.name: v.valueReference for v in described.modelVariables}
    slave = FMU2Slave(guid=described.guid, unzipDirectory=fmpy.extract(request["fmu"]), modelIdentifier=described.coSimulation.modelIdentifier, instanceName="plant")
    slave.instantiate()
    slave.setupExperiment(startTime=0.0)
    slave.enterInitializationMode()
    slave.exitInitializationMode()
    inputs, out, values, at = [reference[n] for n in request["names"]], [reference[request["read"]]], [], 0.0
    for row in request["inputs"]:
        slave.setReal(inputs, row)
        slave.doStep(currentCommunicationPoint=at, communicationStepSize=request["step_s"])
        at += request["step_s"]
        values.append(slave.getReal(out)[0])
    slave.terminate()
    slave.freeInstance()
    print(json.dumps({"values": values}))


if __name__ == "__main__":
    main()
