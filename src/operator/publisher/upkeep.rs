//! Work beside the commits: deleting garbage, writing the text, and giving up outputs that no class has any more.

use std::time::Instant;

use super::{OutputState, Publisher};
use crate::kubernetes::key::OutputKey;
use crate::operator::problems::ReportedBy;
use crate::publish::PublishError;
use crate::publish::outputs::{Collected, GIVE_UP, TextFound, delete_shards, write_text};
use crate::published::objects::OUTPUT_LABEL;

/// The number of outputs whose garbage or text is handled at once.
pub(super) const UPKEEP: usize = 4;

/// The result of work beside the commits.
pub(super) enum Upkeep {
    Garbage(Collected),
    Text(Result<TextFound, PublishError>),
}

impl Publisher {
    /// Gives up outputs that no class has any more: once all their objects are deleted, or if the API server keeps
    /// refusing to answer.
    pub(super) fn forget_retired(&mut self, now: Instant) {
        let withdrawn = |output: &OutputState| {
            output.emptied
                && output.throttle.due(now).is_none()
                && output.writer.has_no_shards()
                && output.text.is_settled(now)
        };
        let over = self.outputs.iter().filter(|(_, output)| output.refusals.are_final() || withdrawn(output));
        let over: Vec<(OutputKey, bool)> =
            over.map(|(key, output)| (key.clone(), output.refusals.are_final())).collect();
        for (key, refused) in over {
            if !self.let_go(&key) {
                self.still_wanted(&key);
                continue;
            }
            if refused {
                let (namespace, name) = (key.namespace(), key.name());
                tracing::warn!(
                    output = %key,
                    "no class publishes here any more, and every request here has been refused for {} \
                     minutes, so the output is given up; if the namespace still exists, delete what is \
                     left: kubectl delete \
                     configmaps,secrets -n {namespace} -l {OUTPUT_LABEL}={name}",
                    GIVE_UP.as_secs() / 60
                );
            } else {
                tracing::info!(output = %key, "no class publishes here any more, and its routing is withdrawn");
            }
        }
    }

    /// Forgets an output that exists only to be emptied, with its problems and watches. Returns whether it did.
    pub(super) fn let_go(&mut self, key: &OutputKey) -> bool {
        if !self.live.forget_output(key) {
            return false;
        }
        self.outputs.remove(key);
        self.statuses.forget_output(key);
        self.problems.set(ReportedBy::Output(key.clone()), Vec::new());
        if !self.outputs.keys().any(|other| other.namespace() == key.namespace()) {
            self.own.end(key.namespace());
            self.agents.end(key.namespace());
        }
        self.show();
        true
    }

    /// A class has the output again, so earlier refusals no longer count.
    pub(super) fn still_wanted(&mut self, key: &OutputKey) {
        if let Some(output) = self.outputs.get_mut(key) {
            output.refusals.reset();
        }
    }

    /// Starts to delete garbage that is due, and marks an output if its text is due.
    pub(super) fn start_upkeep(&mut self, now: Instant) {
        for (key, output) in &mut self.outputs {
            if self.upkeep.len() >= UPKEEP {
                return;
            }
            // The text is that of a commit, which may have nothing else to write.
            if output.text.is_due(now) && output.goes_on() {
                output.throttle.changed(now);
            }
            if output.garbage.may_start(now) && output.writer.garbage_due().is_some_and(|due| due <= now) {
                let garbage = output.writer.take_garbage(now);
                if garbage.is_empty() {
                    continue;
                }
                output.garbage.started();
                let (key, requests) = (key.clone(), self.requests.clone());
                self.upkeep.spawn(async move {
                    let collected = delete_shards(requests, key.clone(), garbage).await;
                    (key, Upkeep::Garbage(collected))
                });
            }
        }
    }

    /// Starts to write the text of the last commit.
    pub(super) fn start_text(&mut self, key: &OutputKey, document: Option<String>) {
        let Some(output) = self.outputs.get_mut(key) else { return };
        let uid = output.text.started(Instant::now());
        // An output to which nobody publishes any more has no index and gets no text.
        let create = output.writer.index().is_some();
        let (key, requests) = (key.clone(), self.requests.clone());
        self.upkeep.spawn(async move {
            let written = write_text(requests, key.clone(), document, uid, create).await;
            (key, Upkeep::Text(written))
        });
    }

    /// Work beside the commits has ended. `None`: it was aborted.
    pub(super) fn upkept(&mut self, done: Option<(OutputKey, Upkeep)>) {
        let Some((key, done)) = done else { return };
        let Some(output) = self.outputs.get_mut(&key) else { return };
        let now = Instant::now();
        match done {
            Upkeep::Garbage(collected) => {
                output.writer.collected(&collected);
                output.garbage.ended(now, collected.error.is_some());
                if collected.deleted > 0 {
                    output.refusals.reset();
                }
                if let Some(error) = collected.error {
                    output.refusals.note(&error, now, || self.live.routing().is_retired(&key));
                    tracing::info!(output = %key, %error, "unused shards stay for now");
                }
            }
            Upkeep::Text(written) => {
                output.text.ended(now, &written);
                match &written {
                    Ok(found) => {
                        output.refusals.reset();
                        output.throttle.wrote(now, found.bytes);
                        output.text_problems.clear();
                    }
                    Err(error) => {
                        output.refusals.note(error, now, || self.live.routing().is_retired(&key));
                        tracing::info!(output = %key, %error, "the text is not written; trying again");
                        let refused = self.refused(&key, error);
                        if let (Some(output), Some(problem)) = (self.outputs.get_mut(&key), refused) {
                            output.text_problems = vec![problem];
                        }
                    }
                }
                self.report(&key);
            }
        }
    }
}
