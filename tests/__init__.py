"""The tests of detachd."""
