//! Kinds that only some classes need and that may be missing: Namespaces and IngressClassParameters.

use std::time::{Duration, Instant};

use futures::{FutureExt, StreamExt};
use kube::Api;
use kube::core::{ApiResource, DynamicObject, GroupVersionKind};
use kube::runtime::watcher::Event;

use super::{LOG_AGAIN, Task, Watching, events, refusal};
use crate::kubernetes::Namespace;
use crate::metrics::WatchKind;
use crate::operator::live::Phase;
use crate::pace::Reminder;
use crate::parameters::classes::NamespaceSource;
use crate::routing::Routing;

/// In addition to the pause after any failure: a missing CRD is looked for every 5 to 10 s.
const LOOK_FOR_CRD: Duration = Duration::from_secs(5);

impl Watching {
    /// Whether a right is missing. During a start, only after a while, because what cannot be read for a moment must not be
    /// withdrawn.
    fn is_lacking(&self, refused: bool, since: &mut Option<Instant>) -> bool {
        *since = refused.then(|| since.unwrap_or_else(Instant::now));
        let starts = *self.live.phase().borrow() != Phase::Synced;
        since.is_some_and(|since| !starts || since.elapsed() >= self.wait_for_right)
    }

    /// Namespaces, for the labels that a class selects by: only while some class does.
    pub(super) fn namespaces(&self) -> Task {
        let context = self.clone();
        async move {
            let mut wanted = context.live.namespaces_wanted();
            loop {
                if wanted.wait_for(|wanted| *wanted).await.is_err() {
                    return;
                }
                tokio::select! {
                    () = context.watch_namespaces() => {}
                    // This also clears the age of the watch that is dropped, so that it does not count as silent.
                    () = async {
                        let _ = wanted.wait_for(|wanted| !wanted).await;
                        context.metrics.watch_age.clear(WatchKind::Namespace);
                    } => {}
                }
                context.live.set_sources(|sources| sources.namespaces = NamespaceSource::Pending);
            }
        }
        .boxed()
    }

    async fn watch_namespaces(&self) {
        let api: Api<Namespace> = Api::all(self.client.clone());
        let mut reminder = Reminder::new(LOG_AGAIN);
        let mut listed = false;
        let mut refused_since = None;
        let path = api.resource_url().to_owned();
        self.metrics.watch_age.begun(WatchKind::Namespace, &path);
        let mut events = events(api, self.config());
        while let Some(event) = events.next().await {
            match event {
                Ok(event) => {
                    let done = matches!(event, Event::InitDone);
                    self.take(WatchKind::Namespace, &path, event, |routing, event| {
                        routing.stores_mut().apply_namespace(event)
                    });
                    if done {
                        listed = true;
                        self.live.set_sources(|sources| sources.namespaces = NamespaceSource::Listed);
                    }
                }
                Err(error) => {
                    let refused = refusal(&error) == Some(403);
                    if refused {
                        // A right that only selectors need, and that every replica lacks alike.
                        self.metrics.watch_age.heard(WatchKind::Namespace, &path, Instant::now());
                    }
                    if self.is_lacking(refused, &mut refused_since) && !listed {
                        self.live.set_sources(|sources| sources.namespaces = NamespaceSource::Unavailable);
                    }
                    self.failed(WatchKind::Namespace, &error, &mut reminder);
                }
            }
        }
    }

    /// IngressClassParameters. Their CRD may not be installed, and the Role of an older release does not let them be read.
    pub(super) fn parameters(&self) -> Task {
        let kind = WatchKind::Parameters;
        let api: Api<DynamicObject> = Api::all_with(self.client.clone(), &parameters_resource());
        let apply = |routing: &mut Routing, event| routing.stores_mut().apply_parameters(event);
        let context = self.clone();
        async move {
            let mut reminder = Reminder::new(LOG_AGAIN);
            let mut missing = false;
            let mut listing = false;
            let mut refused_since = None;
            let path = api.resource_url().to_owned();
            context.metrics.watch_age.begun(kind, &path);
            let mut events = events(api, context.config());
            while let Some(event) = events.next().await {
                match event {
                    // Sent before the list has been answered, so it means nothing yet.
                    Ok(Event::Init) => listing = false,
                    Ok(event) => {
                        refused_since = None;
                        if std::mem::take(&mut missing) {
                            tracing::info!("IngressClassParameters are available");
                        }
                        let of_list = matches!(event, Event::InitApply(_) | Event::InitDone);
                        if of_list && !listing {
                            context.take(kind, &path, Event::Init, apply);
                        }
                        listing = matches!(event, Event::InitApply(_));
                        context.take(kind, &path, event, apply);
                        if !listing {
                            context.live.set_sources(|sources| sources.parameters = true);
                        }
                    }
                    Err(error) if matches!(refusal(&error), Some(403 | 404)) => {
                        let refused = refusal(&error) == Some(403);
                        let lacking = context.is_lacking(refused, &mut refused_since);
                        if (lacking || !refused) && !std::mem::replace(&mut missing, true) {
                            tracing::info!(
                                "IngressClassParameters are not available: their CRD is not installed, or waybill may not read \
                                 them; classes that name some keep the last accepted settings"
                            );
                            context.live.set_sources(|sources| sources.parameters = false);
                            // An empty list: what was there is gone with its CRD.
                            context.take(kind, &path, Event::<DynamicObject>::Init, apply);
                            context.take(kind, &path, Event::<DynamicObject>::InitDone, apply);
                        }
                        context.metrics.watch_age.heard(kind, &path, Instant::now());
                        tokio::time::sleep(LOOK_FOR_CRD).await;
                    }
                    Err(error) => context.failed(kind, &error, &mut reminder),
                }
            }
        }
        .boxed()
    }
}

/// IngressClassParameters, read as they are: an API server without our schema may hold anything.
fn parameters_resource() -> ApiResource {
    let kind = GroupVersionKind::gvk("waybill.dev", "v1alpha1", "IngressClassParameters");
    // The plural is the same word, which can't be guessed.
    ApiResource::from_gvk_with_plural(&kind, "ingressclassparameters")
}
