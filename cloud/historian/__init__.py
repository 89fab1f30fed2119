"""Telemetry in ClickHouse: schema, writer, reader, sealing of rollups. One client class for a given server and for our store process."""
