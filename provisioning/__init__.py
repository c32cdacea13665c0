"""What a person runs outside the process: command line, verifier, exports, sandbox."""
