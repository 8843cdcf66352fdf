"""Values and decisions: pure, without I/O, without a clock of their own, importing only the standard library."""
