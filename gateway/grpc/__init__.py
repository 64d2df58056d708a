"""The relay over gRPC."""
