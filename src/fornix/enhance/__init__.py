"""Scans made sharper in angle and space, and comparable across scanners."""
