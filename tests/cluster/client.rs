//! The ways to the API server.
