"""JSON-RPC of the HyperEVM, over HTTP and WebSocket."""
