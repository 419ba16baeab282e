"""From a photograph to what a network reads from its faces."""
