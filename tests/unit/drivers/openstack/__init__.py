"""The clients of Cinder and Nova, against a real HTTP server that a test scripts."""
