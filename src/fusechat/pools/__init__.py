"""Pools of stored responses: read from the files of other tools, written for others to read."""
