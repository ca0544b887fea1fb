//! Yields the events of one watch, and classifies its failures.

use std::fmt::Debug;
use std::time::Duration;

use futures::StreamExt;
use futures::stream::{self, BoxStream};
use kube::runtime::utils::Backoff;
use kube::runtime::watcher::{self, Event};
use kube::{Api, Resource};
use serde::de::DeserializeOwned;

/// The longest delay before a failed watch is tried again, so that a recovered API server does not wait long.
const LONGEST_PAUSE: Duration = Duration::from_secs(5);

/// The events of a watch, with a delay after each failure that grows while there are only failures. kube's own backoff
/// restarts with every attempt, since a failed attempt is an event too. If a watch is refused at its start, it is
/// listed again: with 410, which kube handles only inside an event, with 404, since a recreated CRD has other objects,
/// and with 403, since the right may be missing for a long time.
pub fn events<K>(api: Api<K>, config: watcher::Config) -> BoxStream<'static, watcher::Result<Event<K>>>
where
    K: Resource + Clone + DeserializeOwned + Debug + Send + 'static,
{
    let begin = move || watcher::watcher(api.clone(), config.clone()).boxed();
    let state = (begin(), begin, watcher::DefaultBackoff::default(), Duration::ZERO);
    stream::unfold(state, |(mut events, begin, mut backoff, pause)| async move {
        // Sleeping for no time still takes a tick of the timer, which is a millisecond for each object of a list.
        if !pause.is_zero() {
            tokio::time::sleep(pause).await;
        }
        let event = events.next().await?;
        if let Err(error @ watcher::Error::WatchStartFailed(_)) = &event
            && matches!(refusal(error), Some(403 | 404 | 410))
        {
            events = begin();
        }
        let pause = match &event {
            Err(_) => backoff.next().unwrap_or(LONGEST_PAUSE).min(LONGEST_PAUSE),
            Ok(Event::Init) => Duration::ZERO,
            Ok(_) => {
                backoff.reset();
                Duration::ZERO
            }
        };
        Some((event, (events, begin, backoff, pause)))
    })
    .boxed()
}

/// The code of an answer that refuses a list or a watch. An API server that does not know a group answers 404 without a
/// Status, so only the code helps.
pub fn refusal(error: &watcher::Error) -> Option<u16> {
    use watcher::Error::{InitialListFailed, WatchError, WatchFailed, WatchStartFailed};
    match error {
        InitialListFailed(kube::Error::Api(status))
        | WatchStartFailed(kube::Error::Api(status))
        | WatchFailed(kube::Error::Api(status))
        | WatchError(status) => Some(status.code),
        _ => None,
    }
}

/// Whether there was no answer at all.
pub(super) fn is_unreachable(error: &watcher::Error) -> bool {
    use watcher::Error::{InitialListFailed, WatchFailed, WatchStartFailed};
    let (InitialListFailed(error) | WatchStartFailed(error) | WatchFailed(error)) = error else {
        return false;
    };
    matches!(error, kube::Error::Service(_) | kube::Error::HyperError(_))
}
