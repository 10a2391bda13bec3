"""The bodies of docs/api.md, one file per noun."""
