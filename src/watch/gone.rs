//! Certificates of Secrets that were deleted a moment ago. Tools renew one by deleting it and making it again, and
//! nothing may be withdrawn in between.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::kubernetes::key::SecretKey;
use crate::metrics::WatchKind;
use crate::traefik::dynamic::Certificate;
use crate::watch::live::Live;

/// Looks at least this often.
const LOOK: Duration = Duration::from_secs(1);

/// How long the certificate of a Secret that is gone stays in use.
pub const STAYS: Duration = Duration::from_secs(10);

/// Withdraws certificates when their time is over, without end.
pub async fn withdraw(live: Arc<Live>) {
    loop {
        let due = live.routing().stores().gone_secrets_due();
        let now = Instant::now();
        if due.is_some_and(|due| due <= now) {
            live.event(WatchKind::TlsSecret, |routing| routing.stores_mut().expire_gone_secrets(now));
        }
        let wait = due.filter(|due| *due > now).map_or(LOOK, |due| (due - now).min(LOOK));
        tokio::time::sleep(wait).await;
    }
}

/// Certificates that outlive their Secrets, each for [`STAYS`] from the deletion and only while an Ingress names it.
#[derive(Debug, Default)]
pub struct Gone(HashMap<SecretKey, (Arc<Certificate>, Instant)>);

impl Gone {
    /// A Secret that was in use was deleted at `at`.
    pub fn keep(&mut self, key: SecretKey, certificate: Arc<Certificate>, at: Instant) {
        // The first deletion counts, so that one which is deleted again and again goes in time.
        self.0.entry(key).or_insert((certificate, at + STAYS));
    }

    /// The certificate, for as long as it is kept.
    pub fn get(&self, key: &SecretKey) -> Option<&Arc<Certificate>> {
        self.0.get(key).map(|(certificate, _)| certificate)
    }

    /// Forgets it: it is there again, or nobody names it any more.
    pub fn forget(&mut self, key: &SecretKey) -> Option<Arc<Certificate>> {
        self.0.remove(key).map(|(certificate, _)| certificate)
    }

    /// Forgets those whose time is over; gives their keys.
    pub fn expire(&mut self, now: Instant) -> Vec<SecretKey> {
        let over: Vec<SecretKey> =
            self.0.extract_if(|_, (_, until)| *until <= now).map(|(key, _)| key).collect();
        if self.0.is_empty() {
            self.0.shrink_to_fit();
        }
        over
    }

    /// When the next one's time is over.
    pub fn due(&self) -> Option<Instant> {
        self.0.values().map(|(_, until)| *until).min()
    }
}
