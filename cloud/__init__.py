"""The platform: core, stores, command service, functions, runtime, gateways, portal."""

__version__ = "0.1.0"
