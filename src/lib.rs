//! waybill: Ingresses in, Traefik's routing out. One direction:
//! watch → index → translate → table → publish.

pub mod index;
pub mod kubernetes;
pub mod metrics;
pub mod options;
pub mod reconcile;
pub mod serve;
pub mod publish;
pub mod table;
pub mod traefik;
pub mod translate;
pub mod watch;
