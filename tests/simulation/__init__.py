"""The deterministic simulator: one platform and fifty edge boxes in one process, on a seeded clock, disk and network.

`make simulate SEEDS=n` for many lives, `python -m tests.simulation.run --seed S --trace` to look at one. The classes that are exercised are the
production ones; only what lies outside them (time, wires, JetStream, ClickHouse, field devices, people) is played. Must not know: real sockets, real clocks.
"""
