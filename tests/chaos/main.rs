#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
mod fault;
#[allow(unused_imports, reason = "what other tests need")]
#[path = "../cluster/harness/mod.rs"]
mod harness;
mod proxy;
mod proxy_tests;
#[path = "../peer/random.rs"]
mod random;
