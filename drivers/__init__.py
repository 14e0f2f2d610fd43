"""Eyes and hands: everything outside the process that is looked at or acted on."""
