//! Secrets beside their watches: a GET for each whose data is wanted and was not sent along, and the end of certificates
//! whose Secrets were deleted.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::{Duration, Instant};

use kube::{Api, Client};
use tokio::sync::Semaphore;
use tokio::task::JoinSet;

use crate::kubernetes::key::SecretKey;
use crate::kubernetes::{Secret, with_causes};
use crate::metrics::WatchKind;
use crate::operator::live::Live;

/// GETs at once.
const CONCURRENCY: usize = 8;

/// A GET that takes longer has failed.
const TIMEOUT: Duration = Duration::from_secs(10);

/// First and longest wait before a GET is tried again that failed, or whose answer was old when it came.
const RETRY: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(60));

/// Looks for certificates whose time is over at least this often.
const LOOK: Duration = Duration::from_secs(1);

/// Fetches what [`Live::secrets`] asks for, without end.
pub async fn fetch(client: Client, live: Arc<Live>) {
    let places = Arc::new(Semaphore::new(CONCURRENCY));
    let mut running: JoinSet<SecretKey> = JoinSet::new();
    let mut wanted = HashSet::new();
    let mut again = HashSet::new();
    loop {
        let key = tokio::select! {
            (key, ()) = live.secrets.next() => key,
            Some(ended) = running.join_next() => {
                let Ok(key) = ended else { continue };
                wanted.remove(&key);
                if !again.remove(&key) {
                    continue;
                }
                key
            }
        };
        if !wanted.insert(key.clone()) {
            // Whoever is at it may have looked for the last time already.
            again.insert(key);
            continue;
        }
        running.spawn(fetch_one(client.clone(), Arc::clone(&live), key, Arc::clone(&places)));
    }
}

/// Fetches one Secret until there is an answer, or nobody wants it any more.
async fn fetch_one(client: Client, live: Arc<Live>, key: SecretKey, places: Arc<Semaphore>) -> SecretKey {
    let api: Api<Secret> = Api::namespaced(client, key.namespace());
    let mut wait = RETRY.0;
    loop {
        let Some(asked) = live.routing().stores().ask_for_secret(&key) else { return key };
        let answer = {
            let Ok(_place) = places.acquire().await else { return key };
            tokio::time::timeout(TIMEOUT, api.get_opt(key.name())).await
        };
        let error = match answer {
            Ok(Ok(secret)) => {
                live.event(WatchKind::TlsSecret, |routing| {
                    routing.stores_mut().secret_fetched(&key, &asked, secret.as_ref())
                });
                wait = RETRY.0;
                if live.routing().stores().ask_for_secret(&key).is_some() {
                    // It has changed since. One that goes on changing must not take up all places.
                    tokio::time::sleep(wait).await;
                }
                continue;
            }
            Ok(Err(error)) => with_causes(&error),
            Err(_) => format!("no answer within {} s", TIMEOUT.as_secs()),
        };
        tracing::warn!(secret = %key, %error, "Secret could not be read; trying again");
        live.event(WatchKind::TlsSecret, |routing| routing.stores_mut().secret_fetch_failed(&key));
        tokio::time::sleep(wait).await;
        wait = (wait * 2).min(RETRY.1);
    }
}

/// Withdraws certificates of deleted Secrets when their time is over, until it is dropped.
pub async fn expire(live: Arc<Live>) {
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
