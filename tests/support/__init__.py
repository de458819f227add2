"""What the tests stand on: real servers, a real user, a bad network, and records of what happened."""
