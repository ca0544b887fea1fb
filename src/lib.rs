//! waybill: Ingresses in, Traefik's routing out. One direction:
//! watch → index → translate → table → publish.

pub mod kubernetes;
pub mod publish;
pub mod table;
pub mod traefik;
pub mod translate;
