"""What each network is trained to do: its model, its data and its loss."""
