"""Cinder and Nova over their REST APIs."""
