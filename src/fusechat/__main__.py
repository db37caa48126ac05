"""`python -m fusechat`."""

from fusechat.cli import console

console()
