//! `hexcuda serve`: runs in a browser, also while they train.
//!
//! One thread answers; files are read and meshes made on others, a few at a time. The folder is only ever read. What a
//! page makes (latents, dropped meshes) is kept in memory, the few that were used last.

mod app;
mod assets;
mod brush;
mod edit;
mod engine;
mod events;
mod failure;
mod latents;
mod lru;
mod routes;
mod runs;
mod security;
mod source;
mod wire;

use crate::device::Device;
use crate::error::{Error, Result};
use app::App;
use axum::serve::ListenerExt;
use futures_util::future::{Either, select};
use security::Guard;
use std::future::IntoFuture;
use std::net::{IpAddr, SocketAddr, TcpListener};
use std::path::PathBuf;
use std::pin::pin;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;
use tokio::sync::oneshot;

/// How long open answers may take once the server is to end.
const GRACE: Duration = Duration::from_secs(2);
/// Threads that read files and compute, at most.
const MOST_THREADS: usize = 16;

/// What is served, and where.
pub struct Options {
    /// A run, or a folder with runs below it; it need not be there yet.
    pub root: PathBuf,
    pub host: IpAddr,
    /// 0: any.
    pub port: u16,
    /// What computes.
    pub device: Device,
    /// Things that are computed at a time.
    pub jobs: usize,
    /// No line for refused requests.
    pub quiet: bool,
}

/// A server on a thread of its own; dropped, it goes on until the process ends.
pub struct Server {
    address: SocketAddr,
    token: Option<String>,
    end: oneshot::Sender<()>,
    thread: JoinHandle<()>,
}

impl Server {
    /// # Errors
    /// An address that cannot be had.
    pub fn start(options: Options) -> Result<Self> {
        let wanted = SocketAddr::new(options.host, options.port);
        let failed = |error: std::io::Error| {
            Error::new(wanted, error, "name another --port, or 0 for any, or another --host")
        };
        let listener = TcpListener::bind(wanted).map_err(failed)?;
        listener.set_nonblocking(true).map_err(failed)?;
        let address = listener.local_addr().map_err(failed)?;
        let guard = Arc::new(Guard::new(address, options.quiet)?);
        let token = guard.token.clone();
        let app = Arc::new(App::new(&options.root, options.device, options.jobs.max(1)));
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_io()
            .enable_time()
            .max_blocking_threads(MOST_THREADS)
            .thread_name("hexcuda-serve")
            .build()
            .map_err(failed)?;
        let (end, ended) = oneshot::channel();
        let work = move || {
            runtime.block_on(answer(app, guard, listener, ended));
            runtime.shutdown_timeout(GRACE);
        };
        let thread = std::thread::Builder::new().name("hexcuda-serve".into()).spawn(work).map_err(failed)?;
        Ok(Self { address, token, end, thread })
    }

    /// What to open in a browser.
    pub fn url(&self) -> String {
        let host = match self.address.ip() {
            ip if ip.is_unspecified() => "localhost".to_string(),
            IpAddr::V6(ip) => format!("[{ip}]"),
            ip => ip.to_string(),
        };
        let token = self.token.as_ref().map_or(String::new(), |token| format!("?token={token}"));
        format!("http://{host}:{}/{token}", self.address.port())
    }

    /// Ends it, with what is being answered, but within two seconds.
    pub fn stop(self) {
        // An error says that it has ended by itself.
        let _ = self.end.send(());
        let _ = self.thread.join();
    }
}

async fn answer(app: Arc<App>, guard: Arc<Guard>, listener: TcpListener, ended: oneshot::Receiver<()>) {
    let Ok(listener) = tokio::net::TcpListener::from_std(listener) else { return };
    // Small answers go at once.
    let listener = listener.tap_io(|stream| drop(stream.set_nodelay(true)));
    let watching = tokio::spawn(events::watch(app.clone()));
    let router = routes::router(app.clone());
    let router = router.layer(axum::middleware::from_fn_with_state(guard, security::guard));
    let (told, grace) = oneshot::channel::<()>();
    let signal = async move {
        // Sent, or dropped with its server: only the first ends it.
        if ended.await.is_err() {
            std::future::pending::<()>().await;
        }
        app.feed.end();
        let _ = told.send(());
    };
    let deadline = async move {
        match grace.await {
            Ok(()) => tokio::time::sleep(GRACE).await,
            Err(_) => std::future::pending().await,
        }
    };
    let serving = axum::serve(listener, router).with_graceful_shutdown(signal).into_future();
    if let Either::Left((Err(error), _)) = select(pin!(serving), pin!(deadline)).await {
        crate::console::note(format_args!("hexcuda: serve: {error}"));
    }
    watching.abort();
}
