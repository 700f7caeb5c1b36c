"""What leaves the studio: files, code, the clipboard, autosaves."""
