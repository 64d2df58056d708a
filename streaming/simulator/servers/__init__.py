"""One port that answers as Hyperliquid does: POST /info and GET /ws."""
