"""The account API under /v1/: HTTP around `gateway.account`, with its OpenAPI description."""
