//! How many entries an output has.

use std::fmt;

use serde::{Deserialize, Serialize};

/// The numbers of entries of an output.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Counts {
    pub routers: usize,
    pub services: usize,
    pub certificates: usize,
}

impl fmt::Display for Counts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { routers, services, certificates } = self;
        write!(f, "{routers} routers, {services} services and {certificates} certificates")
    }
}
