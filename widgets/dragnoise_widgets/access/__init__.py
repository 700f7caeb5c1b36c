"""Accessible names and roles, announcements, theme and dropped files: what the page does for a studio."""
