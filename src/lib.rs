//! waybill: Ingresses in, Traefik's routing out. One direction:
//! watch → index → translate → table → publish.

pub mod kubernetes;
pub mod metrics;
pub mod parameters;
pub mod serve;
pub mod traefik;
pub mod translate;
