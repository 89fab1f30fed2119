"""Physics of the heated communities: one file per physical thing, seeded, with an exact energy balance.

Units inside: kW, kJ, s, degC, kg/s. Must not know: registers, protocols, the platform, wall clocks.
"""
