"""A typed Python client of the platform's interfaces, on the standard library alone: `from cloud.client import Kang`.

Must not know: anything of the platform's inside; it speaks REST like any third party.
"""

from cloud.client.client import Busy, Command, Kang, KangProblem, Latest, Project, Series

__all__ = ["Busy", "Command", "Kang", "KangProblem", "Latest", "Project", "Series"]
