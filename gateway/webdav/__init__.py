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
- ``RequestServer`` runs PROPPATCH, LOCK and UNLOCK: it takes their XML apart, keeps the order and
  the all-or-nothing answers of PROPPATCH (424 for the innocent ones), and words the answers. It
  sees the tree through a provider, a resource and a lock manager of ours, all bound to one
  request's door, so that it decides nothing about rights, locks or storage.
- The other methods are native: wsgidav unquotes Destination before parsing it, creates empty
  files before a body has arrived, answers COPY and MOVE with 204 always, misreads ranges, and
  builds an element per property.
- Its If header parser (catastrophic backtracking), its XML parsing without limits, its
  authentication and its middleware are never reached.
"""
