"""`fornix bench harmonize`: see `suite`."""
