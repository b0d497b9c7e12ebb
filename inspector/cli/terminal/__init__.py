"""What several commands show and ask at a terminal."""
