"""The one door for WebSocket, gRPC and HTTP: who may do how much."""
