"""The bodies of the door's operations: what each asks of policy and locks, and what it then does.

Functions over an ``Operation``; only ``gateway.monitor`` calls them. They see no protocol, open
no transaction of their own and write no record.
"""
