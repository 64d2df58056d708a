"""English, as engineers and accountants sort it."""
