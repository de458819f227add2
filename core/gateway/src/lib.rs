//! The daemon: Prosody mod_rest's HTTP contract and App Engine's webhooks in front of any server.
