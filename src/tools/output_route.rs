//! The routes of an output: each router with the objects from which it comes.

use std::sync::Arc;

use crate::table::Output;
use crate::traefik::dynamic::{HttpService, Router};
use crate::translate::fragment::{Fragment, ServiceFragment};
use crate::translate::name::{DEFAULT_BACKEND, DEFAULT_ROUTER};

/// A router of an output.
#[derive(Debug)]
pub struct OutputRoute<'a> {
    pub name: Arc<str>,
    pub fragment: &'a Fragment,
    pub router: &'a Router,
    pub service_name: Arc<str>,
    pub service: &'a HttpService,
    /// Not for the default backend.
    pub owner: Option<&'a ServiceFragment>,
}

impl<'a> OutputRoute<'a> {
    /// All routes of an output, in no order, and then that of its default backend.
    pub fn all(output: &'a Output) -> impl Iterator<Item = Self> {
        let named = output.routers().map(|(name, fragment, router, service_name)| Self {
            name,
            fragment,
            router: &router.router,
            service_name,
            service: &router.service.service,
            owner: Some(&router.service),
        });
        let default = output.default_backend().and_then(|fragment| {
            let backend = fragment.default_backend.as_deref()?;
            Some(Self {
                name: DEFAULT_ROUTER.into(),
                fragment,
                router: &backend.router,
                service_name: DEFAULT_BACKEND.into(),
                service: &backend.service,
                owner: None,
            })
        });
        named.chain(default)
    }
}
