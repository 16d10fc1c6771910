"""What each benchmark found, how it is shown and what was aimed at. A module per system; what measures it imports it."""
