"""How the station fares: state, metrics, and what is read off the machine."""
