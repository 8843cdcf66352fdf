"""pixir-auth: the one owner of a machine's OAuth logins."""

__version__ = "0.1.0"
