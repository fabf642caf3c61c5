"""The one way from a name, or an import string, to a Scheme."""
