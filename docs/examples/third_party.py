"""A third-party application: prints every active alarm and the warmest value of each project it may see.

Needs a client with devices.project.read, monitoring.latest.read and monitoring.alarms.read:
    kang client my-app --operation devices.project.read monitoring.latest.read monitoring.alarms.read
    KANG_CLIENT_ID=... KANG_CLIENT_SECRET=... python third_party.py http://127.0.0.1:8420
"""

import os
import sys

from cloud.client import Kang


def main(url: str) -> None:
    """Ask and print."""
    with Kang(url, os.environ["KANG_CLIENT_ID"], os.environ["KANG_CLIENT_SECRET"]) as kang:
        for project in kang.projects():
            values = kang.latest(project.id)
            print(f"{project.code}: {len(values)} values")
        for alarm in kang.alarms(active=True):
            print(f"alarm {alarm['severity']}: {alarm['en']}")


if __name__ == "__main__":
    main(sys.argv[1])
