"""Written by `make proto` from `../protos`; nothing here is edited by hand."""
