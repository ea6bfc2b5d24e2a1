"""The WebDAV front end: translates HTTP and WebDAV into operations of the door, and back.

Holds no policy, no storage and no state of its own beyond a request. May import the door
(``gateway.monitor``, ``gateway.login``), everything below it, cheroot, wsgidav, lxml and
defusedxml; never ``gateway.sftp``.

What is used of cheroot, and why not more (``server``, ``connection``):
- ``HTTPServer`` and its life cycle, ``ConnectionManager`` (the selector that idle connections
  wait in) and ``ThreadPool`` with its worker threads. They are sound, and they are enough.
- Not its TLS adapter (it shakes hands on the accepting thread and asks OpenSSL for its list of
  ciphers per connection), not its request parser (lenient where lenience lets requests be
  smuggled), not its file objects (pure-Python buffers) and not its WSGI gateway. ``framing``,
  ``body`` and ``connection`` stand in their place, and keep a connection in its thread while
  requests keep coming.

What is used of wsgidav, and why not more (``library``):
- ``RequestServer`` runs PROPPATCH: it takes the XML apart, keeps the order and the all-or-nothing
  answers (424 for the innocent ones), and words the answer. It sees the tree through a provider
  and a resource of ours, bound to one request's door, so that it decides nothing about rights,
  locks or storage.
- The other methods are native: wsgidav unquotes Destination before parsing it, creates empty
  files before a body has arrived or a lock was granted, answers COPY and MOVE with 204 always,
  misreads ranges, refuses a LOCK with a comment or an extension in its body, fails at a Timeout of
  5,000 digits, refreshes anybody's lock, and builds an element per property.
- Its If header parser (catastrophic backtracking), its XML parsing without limits, its
  authentication and its middleware are never reached.
"""
