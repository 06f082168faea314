"""Faults of the real thing: processes killed at every storage call, disks that refuse, fill up, slow down or lie."""
