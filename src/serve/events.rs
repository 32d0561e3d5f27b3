//! What happens in the folder, told to pages as it happens (server-sent events).
//!
//! Files are looked at four times a second, only while somebody listens, and only the last kilobytes of the logs of
//! runs that train; every two seconds the folder is searched for runs anew. A page that falls behind misses events
//! and holds nothing up.

use super::app::App;
use super::failure::{Answer, Failure};
use super::runs::{Progress, Record, Run, last_row, lock};
use crate::train::list_snapshots;
use axum::response::sse::{Event, KeepAlive, Sse};
use axum::response::{IntoResponse, Response};
use futures_util::stream;
use serde_json::json;
use std::collections::{BTreeMap, BTreeSet};
use std::convert::Infallible;
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::sync::broadcast::{self, error::RecvError};

const LOOK_EVERY: Duration = Duration::from_millis(250);
/// Looks between two searches for runs.
const SEARCH_EVERY: u64 = 8;
/// Events that a page may be behind.
const BACKLOG: usize = 256;
/// Pages that listen.
const MOST_LISTENERS: usize = 64;
/// A comment keeps what lies between from closing the connection.
const SIGN_OF_LIFE: Duration = Duration::from_secs(15);

#[derive(Clone, Debug, PartialEq)]
pub struct Message {
    kind: &'static str,
    data: String,
}

/// The way to those who listen; ends with the server.
pub struct Feed(Mutex<Option<broadcast::Sender<Message>>>);

impl Default for Feed {
    fn default() -> Self {
        Self(Mutex::new(Some(broadcast::channel(BACKLOG).0)))
    }
}

impl Feed {
    /// The answer to a page that listens.
    pub fn listen(&self) -> Answer<Response> {
        let receiver = match &*lock(&self.0) {
            Some(sender) if sender.receiver_count() < MOST_LISTENERS => sender.subscribe(),
            _ => return Err(Failure::busy()),
        };
        let events = stream::unfold(receiver, async |mut receiver| {
            loop {
                match receiver.recv().await {
                    Ok(Message { kind, data }) => {
                        let event = Event::default().event(kind).data(data);
                        return Some((Ok::<_, Infallible>(event), receiver));
                    }
                    Err(RecvError::Lagged(_)) => {}
                    Err(RecvError::Closed) => return None,
                }
            }
        });
        Ok(Sse::new(events).keep_alive(KeepAlive::new().interval(SIGN_OF_LIFE)).into_response())
    }

    /// Ends what is listened to.
    pub fn end(&self) {
        *lock(&self.0) = None;
    }

    /// Whether anybody listens; none once it has ended.
    fn has_listeners(&self) -> Option<bool> {
        lock(&self.0).as_ref().map(|sender| sender.receiver_count() > 0)
    }

    fn tell(&self, messages: Vec<Message>) {
        if let Some(sender) = &*lock(&self.0) {
            // An error says that nobody listens any more.
            messages.into_iter().for_each(|message| drop(sender.send(message)));
        }
    }
}

/// Looks at the folder until the feed ends.
pub async fn watch(app: Arc<App>) {
    let mut watch = Watch::default();
    loop {
        tokio::time::sleep(LOOK_EVERY).await;
        match app.feed.has_listeners() {
            None => return,
            Some(false) => watch = Watch::default(),
            Some(true) => {
                let mut before = std::mem::take(&mut watch);
                let looked = app.look(move |app| {
                    let messages = before.look(app);
                    Ok((before, messages))
                });
                if let Ok((now, messages)) = looked.await {
                    watch = now;
                    app.feed.tell(messages);
                }
            }
        }
    }
}

/// What was seen last.
#[derive(Default)]
struct Watch {
    looks: u64,
    seen: BTreeMap<String, Seen>,
}

struct Seen {
    run: Run,
    record: Record,
    step: u64,
    snapshots: BTreeSet<u64>,
}

impl Watch {
    fn look(&mut self, app: &App) -> Vec<Message> {
        let mut messages = Vec::new();
        let search = self.looks.is_multiple_of(SEARCH_EVERY);
        if search {
            self.search(app, &mut messages);
        }
        for (id, seen) in &mut self.seen {
            if search || seen.record.state == Progress::Training {
                seen.look(id, &mut messages);
            }
        }
        self.looks += 1;
        messages
    }

    /// Runs that came, went or changed their state.
    fn search(&mut self, app: &App, messages: &mut Vec<Message>) {
        let first = self.looks == 0;
        let runs = app.runs.all();
        let present: BTreeSet<&String> = runs.iter().map(|run| &run.id).collect();
        let gone: Vec<String> = self.seen.keys().filter(|id| !present.contains(id)).cloned().collect();
        for id in gone {
            self.seen.remove(&id);
            messages.push(message("gone", json!({ "id": id })));
        }
        for run in &runs {
            let record = app.runs.record(run, &runs);
            let told = self.seen.get(&run.id).map(|seen| Record { step: record.step, ..seen.record.clone() });
            if told.as_ref() != Some(&record) {
                messages.push(message("run", json!(record)));
            }
            let step = record.step;
            match self.seen.get_mut(&run.id) {
                Some(seen) => seen.record = record,
                None => {
                    // Who has just begun to listen asks for what was there before.
                    let known =
                        if first { list_snapshots(&run.path).unwrap_or_default() } else { Vec::new() };
                    let (run, snapshots) = (run.clone(), known.into_iter().collect());
                    self.seen.insert(run.id.clone(), Seen { run, record, step, snapshots });
                }
            }
        }
    }
}

impl Seen {
    fn look(&mut self, id: &str, messages: &mut Vec<Message>) {
        if let Some((step, loss)) =
            last_row(&self.run.path.join("metrics.csv")).filter(|row| row.0 != self.step)
        {
            self.step = step;
            let steps = self.record.steps;
            messages.push(message("step", json!({ "id": id, "step": step, "steps": steps, "loss": loss })));
        }
        for step in list_snapshots(&self.run.path).unwrap_or_default() {
            if self.snapshots.insert(step) {
                messages.push(message("snapshot", json!({ "id": id, "step": step })));
            }
        }
    }
}

fn message(kind: &'static str, data: serde_json::Value) -> Message {
    Message { kind, data: data.to_string() }
}
