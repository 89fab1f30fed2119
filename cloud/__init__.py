"""The platform: core, stores, command service, functions, runtime, gateways, portal."""
