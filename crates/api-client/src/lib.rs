//! Wire types of the REST API and a typed HTTP client.
