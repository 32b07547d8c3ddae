//! What is decided: membership, capabilities, directory, placement. No I/O, no clock.
