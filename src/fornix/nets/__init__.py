"""The networks at work: what they see of a scan, how they are built, and their weights."""
