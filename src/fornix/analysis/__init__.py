"""From tracts and streamlines to results: connectomes, group statistics, one person against a norm."""
