"""Export: files, code, the clipboard, autosaves."""
