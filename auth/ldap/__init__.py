"""The directory driver for LDAP: OpenLDAP, 389 Directory Server, Active Directory.

Holds everything that touches ldap3 and nothing that decides who may do what. ``settings`` is what
it is told, ``link`` one connection, ``failover`` several servers as one, ``driver`` the directory.
"""

from __future__ import annotations

import warnings

with warnings.catch_warnings():
    # ldap3/utils/asn1.py asks pyasn1 for names that it has renamed; they go in pyasn1 0.7.
    warnings.filterwarnings("ignore", "(tag|type)Map is deprecated", DeprecationWarning)
    import ldap3  # noqa: F401  loaded here, so that the modules below load it quietly

from auth.ldap.driver import LdapDirectory
from auth.ldap.settings import GroupLookup, LdapSettings
from auth.ldap.values import escaped

__all__ = ["GroupLookup", "LdapDirectory", "LdapSettings", "escaped"]
