"""Registers a project, then its devices, on an installation of Kang: what `kang` has no command for yet.

`python docs/examples/register.py --home DIR project --code FARM --name-zh 农场 --name-en Farm --area 1200 --latitude 40.1 --longitude 116.6`
`python docs/examples/register.py --home DIR device --project 1 --agent box-1 --code FM1 --name-zh 馈线表 --name-en "Feeder meter" --template feeder_meter`
Both print the id that belongs into site.yaml; running them again updates. Must not know: how the ledger keeps it.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from cloud.core.settings import load
from cloud.functions.devices.service import DeviceService, NewDevice, NewProject
from cloud.ledger import open_ledger


def main(argv: list[str] | None = None) -> int:
    """Register one thing and return its id."""
    parser = argparse.ArgumentParser(description="Register a project or a device.")
    parser.add_argument("--home", type=Path, required=True, help="directory of the installation")
    calls = parser.add_subparsers(dest="what", required=True)
    project = calls.add_parser("project")
    device = calls.add_parser("device")
    for call in (project, device):
        call.add_argument("--code", required=True, help="1-60 letters, digits, '-', '_' or '.'")
        call.add_argument("--name-zh", required=True)
        call.add_argument("--name-en", required=True)
    project.add_argument("--region", default="default")
    project.add_argument("--kind", default="boiler_storage")
    project.add_argument("--area", type=float, required=True, help="heated area, m2")
    project.add_argument("--latitude", type=float, required=True, help="degrees, WGS-84")
    project.add_argument("--longitude", type=float, required=True, help="degrees, WGS-84")
    device.add_argument("--project", type=int, required=True)
    device.add_argument("--agent", required=True)
    device.add_argument("--template", required=True, help="key of a registered template; the newest version is taken")
    device.add_argument("--rated-kw", type=float, default=0.0)
    args = parser.parse_args(argv)
    ledger = open_ledger(load(args.home).effective_ledger_url)
    try:
        service = DeviceService(ledger)
        if args.what == "project":
            service.register_region(args.region, args.region, args.region)
            made = service.register_project(NewProject(args.code, args.name_zh, args.name_en, args.region, args.latitude, args.longitude, args.area, args.kind))
        else:
            made = service.register_device(args.project, NewDevice(args.code, args.name_zh, args.name_en, args.agent, args.template, rated_kw=args.rated_kw))
    finally:
        ledger.close()
    print(made)
    return made


if __name__ == "__main__":
    main()
