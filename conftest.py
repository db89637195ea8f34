"""Fixtures of the tests of fornix and of fornix-bench."""

pytest_plugins = ["helpers.fixtures", "helpers.models"]
