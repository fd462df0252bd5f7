//! Issues from GitHub, against a local server that behaves like it.

mod github;
mod server;
