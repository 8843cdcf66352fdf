"""Hostile pages in a real Chromium against a real service process."""
