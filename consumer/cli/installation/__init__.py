"""The commands that set detachd up, examine it, try it and hold it: config, doctor, demo, pause."""
