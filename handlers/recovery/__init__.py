"""One attempt at a case: look, decide, act, look again."""
