"""Death, stalls and broken disks, at every step of a refresh, on real processes."""
