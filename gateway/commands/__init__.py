"""The sub-commands of ``sealgate``: one module a subject, each printing for people or as JSON."""
