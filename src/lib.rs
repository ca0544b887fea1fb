//! waybill: Ingresses in, Traefik's routing out. One direction:
//! watch → index → translate → table → publish.

mod agent;
pub mod cli;
pub mod index;
pub mod key_queue;
pub mod kubernetes;
pub mod metrics;
pub mod offline;
pub mod operator;
pub mod options;
mod pace;
pub mod parameters;
pub mod publish;
pub mod published;
mod redact;
pub mod routing;
mod serve;
mod small_set;
mod spans;
pub mod table;
pub mod tools;
pub mod traefik;
pub mod translate;
pub mod watch;
