"""gRPC servers at the platform's border. They check who speaks and pass sealed bytes on; they cannot read telemetry."""
