"""What tests of several subjects share: real servers and real clients, no mocks."""
