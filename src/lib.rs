//! waybill: Ingresses in, Traefik's routing out. One direction:
//! watch → index → translate → table → publish.

pub mod cli;
pub mod few;
pub mod index;
pub mod kubernetes;
pub mod metrics;
pub mod offline;
pub mod options;
pub mod parameters;
pub mod publish;
pub mod reconcile;
pub mod serve;
pub mod table;
pub mod traefik;
pub mod translate;
pub mod watch;
