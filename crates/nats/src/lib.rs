//! The connection to NATS that stream and bus share: URL, TLS, credentials, how it comes back.
