"""What counts as one client among network addresses. Pure; imports nothing of the project."""

from __future__ import annotations

from ipaddress import IPv6Address, ip_address, ip_network

_IPV6_PREFIX_BITS = 64


def client_host(address: str) -> str:
    """Return an IPv4 address as it is, of an IPv6 one the /64 that it lies in; other text as it is.

    Whoever has an IPv6 address has a network of them. A zone (``%eth0``) is dropped, and IPv4 that
    is written as IPv6 counts as IPv4.
    """
    try:
        parsed = ip_address(address.partition("%")[0])
    except ValueError:
        return address
    if not isinstance(parsed, IPv6Address):
        return str(parsed)
    if parsed.ipv4_mapped is not None:
        return str(parsed.ipv4_mapped)
    return str(ip_network((parsed, _IPV6_PREFIX_BITS), strict=False))
