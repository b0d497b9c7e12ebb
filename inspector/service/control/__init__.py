"""Who starts, stops and changes the running station."""
