//! Secrets whose data is wanted and was not sent along by a watch: a GET for each, again after a while where it fails.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use kube::{Api, Client};
use tokio::sync::Semaphore;
use tokio::task::JoinSet;

use crate::kubernetes::Secret;
use crate::kubernetes::key::SecretKey;
use crate::metrics::WatchKind;
use crate::operator::feeds::chain;
use crate::operator::live::Live;

/// GETs at once.
const CONCURRENCY: usize = 8;

/// A GET that takes longer has failed.
const TIMEOUT: Duration = Duration::from_secs(10);

/// First and longest wait before a failed GET is tried again.
const RETRY: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(60));

/// Fetches what [`Live::secrets`] asks for, without end.
pub async fn secrets(client: Client, live: Arc<Live>) {
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
        running.spawn(fetch(client.clone(), Arc::clone(&live), key, Arc::clone(&places)));
    }
}

/// Fetches one Secret until there is an answer, or nobody wants it any more.
async fn fetch(client: Client, live: Arc<Live>, key: SecretKey, places: Arc<Semaphore>) -> SecretKey {
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
                // Stale already where the Secret has changed since.
                wait = RETRY.0;
                continue;
            }
            Ok(Err(error)) => chain(&error),
            Err(_) => format!("no answer within {} s", TIMEOUT.as_secs()),
        };
        tracing::warn!(secret = %key, %error, "Secret could not be read; trying again");
        live.event(WatchKind::TlsSecret, |routing| routing.stores_mut().secret_fetch_failed(&key));
        tokio::time::sleep(wait).await;
        wait = (wait * 2).min(RETRY.1);
    }
}
