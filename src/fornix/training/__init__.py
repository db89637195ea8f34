"""How the shipped weights are made: simulated data, tasks, recipes, the trainer, calibration, cards."""
