"""The judgement: what a notification means, what is true, what to do."""
