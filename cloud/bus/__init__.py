"""NATS JetStream: our own server when none is given, connections, streams, the claim store. Knows no telemetry format."""
