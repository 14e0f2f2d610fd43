"""The broker: how it is reached, what is declared there, taken from it and sent to it."""
