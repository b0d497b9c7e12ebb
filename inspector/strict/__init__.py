"""Files that people write, read strictly: what models have in common, and what is said where one is at fault."""
