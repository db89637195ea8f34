"""The job on one scan: its options, steps that can be reused, its record of quality."""
